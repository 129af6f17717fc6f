//! What a resync changes, what it keeps, and what it says.

use std::sync::Arc;

use engine::entry::{RestoredOption, RestoredPolicy};
use engine::option::{OptionStatus, Policy};
use engine::plan::{Layout, Run};
use engine::reservation::Kind;
use engine::shard::Difference;
use engine::{
    Authority, Caller, ChainHead, Command, ConcertId, Effect, Effects, EntryNo, Epoch, Input, MirrorOp,
    OptionId, ReplyTo, Request, RequestKey, Reservation, ReservationId, Restored, SeatNo, SeatState,
    Settings, Shard, ShardId, Status, Time, UserId,
};

const OPTION: OptionId = OptionId(7);
const CONCERT: ConcertId = ConcertId(70);
const NOW: Time = Time(10_000_000);

fn id(number: u128) -> ReservationId {
    ReservationId::stamp(number << 32, OPTION)
}

fn reservation(number: u128, seat: u32, status: Status) -> Reservation {
    Reservation {
        id: id(number),
        kind: Kind::Sale,
        user: UserId(5),
        concert: CONCERT,
        option: OPTION,
        seats: [SeatNo(seat)].into_iter().collect(),
        status,
        version: 1,
        amount: 100,
        deadline: Time(300_000_000),
        created_at: Time(1),
        changed_at: Time(1),
        payment_started: false,
    }
}

/// A ledger with an option of ten seats and these reservations.
fn ledger(reservations: Vec<Reservation>) -> Restored {
    let layout = Layout {
        categories: vec![0; 10],
        runs: vec![Run { first: SeatNo(0), seats: 10 }],
        sections: vec![SeatNo(0)],
        prices: vec![100],
    };
    let option = RestoredOption {
        option: OPTION,
        concert: CONCERT,
        status: OptionStatus::OnSale,
        version: 1,
        layout: Arc::new(layout),
    };
    Restored { options: vec![option], reservations, ..Restored::default() }
}

fn shard(restored: Restored) -> Shard {
    let mut shard = Shard::new(ShardId(0), Epoch(1), Settings::default());
    shard.restore(NOW, restored).unwrap();
    shard
}

fn select(shard: &mut Shard, user: u64, seat: u32) {
    let seats = [SeatNo(seat)].into_iter().collect();
    ask(shard, user, None, Command::Select { option: OPTION, seats });
}

fn ask(shard: &mut Shard, user: u64, key: Option<u128>, command: Command) -> Effects {
    let caller = Caller { user: UserId(user), authority: Authority::Own };
    let request = Request { reply: ReplyTo(1), caller, key: key.map(RequestKey), pass: false, command };
    let mut effects = Effects::new();
    shard.step(NOW, Input::Command(request), &mut effects);
    effects
}

fn resync(shard: &mut Shard, restored: Restored) -> (Vec<Difference>, Effects) {
    let mut effects = Effects::new();
    let fresh = self::shard(restored);
    let differences = shard.resync(fresh, &mut effects);
    (differences, effects)
}

fn states(shard: &Shard) -> Vec<SeatState> {
    shard.seat_states(OPTION).collect()
}

#[test]
fn where_nothing_differs_nothing_changes() {
    let rows = || vec![reservation(1, 3, Status::Hold), reservation(2, 4, Status::Confirmed)];
    let mut shard = shard(ledger(rows()));
    select(&mut shard, 8, 0);
    select(&mut shard, 9, 1);
    let (digest, seats, feed) = (shard.digest(), states(&shard), shard.options().next().unwrap().feed_seq);
    let (differences, effects) = resync(&mut shard, ledger(rows()));
    assert_eq!((differences, effects), (Vec::new(), Effects::new()));
    assert_eq!(shard.digest(), digest);
    assert_eq!((states(&shard), shard.options().next().unwrap().feed_seq), (seats, feed));
    assert_eq!(shard.soft_locks(OPTION).count(), 2);
}

/// Memory has a hold on 3 that the ledger does not have, and misses one on 5, where somebody is selecting.
#[test]
fn the_ledger_is_right_and_soft_locks_that_clash_end() {
    let mut shard = shard(ledger(vec![reservation(1, 3, Status::Hold)]));
    select(&mut shard, 8, 5);
    select(&mut shard, 9, 6);
    let feed = shard.options().next().unwrap().feed_seq;
    let (differences, effects) = resync(&mut shard, ledger(vec![reservation(2, 5, Status::Confirmed)]));
    let seat = |seat, memory, ledger| Difference::Seat { option: OPTION, seat: SeatNo(seat), memory, ledger };
    assert_eq!(
        differences,
        [
            Difference::Reservation {
                id: id(1),
                memory: Some(Box::new(reservation(1, 3, Status::Hold))),
                ledger: None,
            },
            Difference::Reservation {
                id: id(2),
                memory: None,
                ledger: Some(Box::new(reservation(2, 5, Status::Confirmed))),
            },
            seat(3, SeatState::Hold, SeatState::Available),
            seat(5, SeatState::Available, SeatState::Confirmed),
            Difference::SoftLock { option: OPTION, seat: SeatNo(5), user: UserId(8) },
        ]
    );
    let change = |seat, state, step| {
        let change = engine::SeatChange { option: OPTION, seat: SeatNo(seat), state, feed_seq: feed + step };
        Effect::Publish(change)
    };
    let unlock = MirrorOp::Unlock { option: OPTION, seat: SeatNo(5), user: UserId(8) };
    assert_eq!(
        effects,
        [Effect::Mirror(unlock), change(3, SeatState::Available, 1), change(5, SeatState::Confirmed, 2),]
    );
    assert_eq!(shard.soft_locks(OPTION).map(|lock| (lock.seat.0, lock.user.0)).collect::<Vec<_>>(), [(6, 9)]);
    // What was a hold is free again, and the user's count with it.
    select(&mut shard, 4, 3);
    assert_eq!(states(&shard)[3], SeatState::Selecting);
}

#[test]
fn options_and_policies_are_taken_over() {
    let mut shard = shard(ledger(Vec::new()));
    select(&mut shard, 8, 5);
    let mut restored = ledger(Vec::new());
    restored.options[0].status = OptionStatus::Closed;
    restored.options[0].version = 2;
    let policy = Policy { reservations_per_user: 9, gate: false };
    restored.policies = vec![RestoredPolicy { concert: CONCERT, policy, version: 1 }];
    let (differences, _) = resync(&mut shard, restored);
    assert_eq!(
        differences,
        [
            Difference::Option {
                option: OPTION,
                memory: Some((OptionStatus::OnSale, 1)),
                ledger: Some((OptionStatus::Closed, 2)),
            },
            Difference::Policy { concert: CONCERT, memory: None, ledger: Some((policy, 1)) },
            Difference::SoftLock { option: OPTION, seat: SeatNo(5), user: UserId(8) },
        ]
    );
    assert_eq!(states(&shard)[5], SeatState::Available, "a closed option has no soft locks");
}

/// An ended reservation leaves memory by itself; that it is gone on one side is no difference.
#[test]
fn what_has_ended_may_be_forgotten() {
    let mut shard = shard(ledger(vec![reservation(1, 3, Status::Expired)]));
    assert_eq!(resync(&mut shard, ledger(Vec::new())).0, []);
    assert_eq!(resync(&mut shard, ledger(vec![reservation(1, 3, Status::Expired)])).0, []);
}

/// The writer counts entries within the epoch, also across a resync.
#[test]
fn entries_are_numbered_on() {
    let mut shard = shard(ledger(Vec::new()));
    let hold = |number, seat: u32| Command::Hold {
        option: OPTION,
        seats: [SeatNo(seat)].into_iter().collect(),
        reservation: id(number),
    };
    select(&mut shard, 5, 1);
    ask(&mut shard, 5, Some(1), hold(1, 1));
    assert!(!shard.is_quiet());
    let head = ChainHead { event_seq: 1, hash: [1; 32] };
    shard.step(NOW, Input::Applied { upto: EntryNo(1), head }, &mut Effects::new());
    assert!(shard.is_quiet());
    let held = shard.reservation(id(1)).unwrap().clone();
    let restored = Restored { head, ..ledger(vec![held]) };
    assert_eq!(resync(&mut shard, restored).0, []);
    select(&mut shard, 5, 2);
    let effects = ask(&mut shard, 5, Some(2), hold(2, 2));
    let [Effect::Append(entry)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(entry.no, EntryNo(2));
}
