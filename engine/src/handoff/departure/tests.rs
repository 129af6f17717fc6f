use super::Answer::{NoRow, Row, Unknown};
use super::Heard::{Declined, Halted, HandedOver, Holding, NotOwner, Quiet, Ready, TookBack};
use super::*;

/// `Wait` stands for as long as the phase is given.
#[derive(Clone, Copy, Debug)]
enum Told {
    Hear(Heard),
    Wait,
}

use Told::{Hear, Wait};

const E: Epoch = Epoch(7);
const NEXT: Epoch = Epoch(8);
const ATTEMPT: Attempt = Attempt { epoch: E, no: 2 };
const COPIED: [Told; 3] = [Hear(Ready), Hear(Quiet), Hear(Holding)];

/// What is ordered after the first order, which is to warm up.
fn orders(told: &[Told]) -> Vec<Order> {
    let (mut now, mut orders) = (Moment(1_000), Vec::new());
    let mut departure: Departure<u8> = Departure::begin(ATTEMPT, Patience::default(), 4, now, &mut orders);
    for told in told {
        match told {
            Hear(heard) => departure.hear(now, *heard, &mut orders),
            Wait => {
                let due = departure.next_wake().expect("it waits for something");
                departure.tick(Moment(due.0 - 1), &mut orders);
                now = due;
                departure.tick(now, &mut orders);
            }
        }
    }
    assert_eq!(departure.next_wake().is_none(), matches!(departure.phase(), Phase::Ended(_)));
    assert_eq!(orders.remove(0), Order::Warm);
    orders
}

fn check(what: &str, told: &[Told], expected: &[Order]) {
    assert_eq!(orders(told), expected, "{what}");
}

/// The same after the state was copied.
fn check_decided(what: &str, told: &[Told], expected: &[Order]) {
    let told = [&COPIED, told].concat();
    let expected = [&[Order::Flush, Order::Copy, Order::HandOver], expected].concat();
    check(what, &told, &expected);
}

#[test]
fn a_move_that_fails_before_the_hand_over_changes_nothing() {
    let resumed = |why| Order::End(End::Resumed(why));
    check("not ready", &[Wait], &[resumed(Why::NotReady)]);
    check("declined", &[Hear(Declined)], &[resumed(Why::Declined)]);
    check("lost early", &[Hear(NotOwner)], &[Order::End(End::Lost)]);
    let flush = Order::Flush;
    check("never quiet", &[Hear(Ready), Wait], &[flush, resumed(Why::TooSlow)]);
    check("halted", &[Hear(Ready), Hear(Halted)], &[flush, Order::End(End::Halted)]);
    check("lost", &[Hear(Ready), Hear(NotOwner)], &[flush, Order::End(End::Lost)]);
    let copied = [Hear(Ready), Hear(Quiet)];
    check("never copied", &[&copied[..], &[Wait]].concat(), &[flush, Order::Copy, resumed(Why::TooSlow)]);
    check(
        "dropped",
        &[&copied[..], &[Hear(Declined)]].concat(),
        &[flush, Order::Copy, resumed(Why::Declined)],
    );
    check("holding what was not sent", &[Hear(Ready), Hear(Holding)], &[flush]);
    check("after the end", &[Wait, Hear(Ready), Hear(Quiet)], &[resumed(Why::NotReady)]);
}

#[test]
fn after_the_hand_over_only_the_ledger_counts() {
    use Order::{ReadRow, TakeBack};
    let (moved, back) = (Order::End(End::Moved(NEXT)), Order::End(End::TakenBack(NEXT)));
    let row = |epoch, owner| Hear(Heard::Row(epoch, owner));
    check_decided("moved", &[Hear(HandedOver(Row))], &[moved]);
    check_decided("nobody else is asked", &[Hear(Declined), Hear(Halted)], &[]);
    check_decided(
        "unknown, taken back",
        &[Hear(HandedOver(Unknown)), Hear(TookBack(Row))],
        &[TakeBack, back],
    );
    check_decided("silent, taken back", &[Wait, Hear(TookBack(Row))], &[TakeBack, back]);
    check_decided("silent, then it says so", &[Wait, Hear(HandedOver(Row))], &[TakeBack, moved]);
    check_decided(
        "taken back again and again",
        &[Wait, Hear(TookBack(Unknown)), Wait, Wait, Hear(TookBack(Row))],
        &[TakeBack, TakeBack, TakeBack, back],
    );
    check_decided(
        "not to be taken back: it was moved",
        &[Wait, Hear(TookBack(NoRow)), row(NEXT, Owner::Target)],
        &[TakeBack, ReadRow, moved],
    );
    check_decided(
        "the first attempt to take it back had worked",
        &[Wait, Wait, Hear(TookBack(NoRow)), Wait, row(NEXT, Owner::Me)],
        &[TakeBack, TakeBack, ReadRow, ReadRow, back],
    );
    let lost = Order::End(End::Lost);
    check_decided(
        "somebody else came first",
        &[Hear(HandedOver(NoRow)), row(NEXT, Owner::Other)],
        &[ReadRow, lost],
    );
    check_decided("long gone", &[Hear(NotOwner), row(Epoch(9), Owner::Target)], &[ReadRow, lost]);
    check_decided("mine by other means", &[Hear(NotOwner), row(Epoch(9), Owner::Me)], &[ReadRow, lost]);
    check_decided(
        "still as it was",
        &[Hear(NotOwner), row(E, Owner::Me), Hear(TookBack(Row))],
        &[ReadRow, TakeBack, back],
    );
}

#[test]
fn commands_are_parked_in_order_and_no_more_than_there_is_room_for() {
    let mut orders = Vec::new();
    let mut departure = Departure::begin(ATTEMPT, Patience::default(), 2, Moment(0), &mut orders);
    assert_eq!(departure.offer(1), Offer::Decide(1));
    departure.hear(Moment(0), Ready, &mut orders);
    assert_eq!(departure.offer(2), Offer::Parked);
    departure.hear(Moment(0), Quiet, &mut orders);
    assert_eq!(departure.offer(3), Offer::Parked);
    assert_eq!(departure.offer(4), Offer::Full(4));
    departure.hear(Moment(0), Holding, &mut orders);
    departure.hear(Moment(0), HandedOver(Row), &mut orders);
    assert_eq!(departure.phase(), Phase::Ended(End::Moved(NEXT)));
    assert_eq!(departure.offer(5), Offer::Over(5));
    assert_eq!(departure.take_parked(), [2, 3]);
    assert_eq!(departure.attempt(), ATTEMPT);
}
