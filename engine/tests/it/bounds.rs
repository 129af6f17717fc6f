//! What a shard refuses for its own sake: full memories, and ledgers that contradict themselves.

use std::sync::Arc;

use engine::entry::{Answered, RequestMark, RestoredOption, Told};
use engine::limits::ANSWERED_KEYS;
use engine::option::{OptionStatus, Policy};
use engine::plan::{Layout, Run};
use engine::reservation::Kind;
use engine::shard::RestoreError;
use engine::{
    Authority, Caller, ChainHead, Command, ConcertId, Effect, EntryNo, Epoch, Input, OptionId, Outcome,
    ReplyTo, Request, RequestKey, Reservation, ReservationId, Restored, SeatNo, Settings, Shard, ShardId,
    Status, Time, Unavailable, UserId,
};

const OPTION: OptionId = OptionId(7);

fn shard() -> Shard {
    Shard::new(ShardId(0), Epoch(1), Settings::default())
}

fn layout(seats: u32) -> Arc<Layout> {
    Arc::new(Layout {
        categories: vec![0; seats as usize],
        runs: vec![Run { first: SeatNo(0), seats }],
        sections: vec![SeatNo(0)],
        prices: vec![100],
    })
}

fn option(option: OptionId, layout: Arc<Layout>) -> RestoredOption {
    RestoredOption { option, concert: ConcertId(1), status: OptionStatus::OnSale, version: 1, layout }
}

fn hold(id: u128, option: OptionId, seat: u32) -> Reservation {
    Reservation {
        id: ReservationId::stamp(id << 32, option),
        kind: Kind::Sale,
        user: UserId(5),
        concert: ConcertId(1),
        option,
        seats: [SeatNo(seat)].into_iter().collect(),
        status: Status::Hold,
        version: 1,
        amount: 100,
        deadline: Time(300_000_000),
        created_at: Time(0),
        changed_at: Time(0),
        payment_started: false,
    }
}

#[test]
fn a_ledger_that_contradicts_itself_is_not_served() {
    let base = || Restored { options: vec![option(OPTION, layout(10))], ..Restored::default() };
    let restore = |restored| shard().restore(Time(0), restored);
    let id = |id: u128| ReservationId::stamp(id << 32, OPTION);
    assert_eq!(restore(base()), Ok(()));

    let twice = Restored { reservations: vec![hold(1, OPTION, 3), hold(2, OPTION, 3)], ..base() };
    let clash =
        |reservation, seat| Err(RestoreError::SeatClash { option: OPTION, seat: SeatNo(seat), reservation });
    assert_eq!(restore(twice), clash(id(2), 3));
    let outside = Restored { reservations: vec![hold(1, OPTION, 10)], ..base() };
    assert_eq!(restore(outside), clash(id(1), 10));

    let foreign = Restored { reservations: vec![hold(1, OptionId(8), 3)], ..base() };
    let reservation = ReservationId::stamp(1 << 32, OptionId(8));
    assert_eq!(restore(foreign), Err(RestoreError::OptionUnknown { option: OptionId(8), reservation }));

    let told = Told::Reservation {
        reservation: id(9),
        status: Status::Hold,
        version: 1,
        deadline: Time(300_000_000),
    };
    let request = RequestMark { key: RequestKey(1), content: 1 };
    let answered = vec![Answered { at: Time(1), caller: UserId(5), request, told }];
    let missing = Restored { answered, ..base() };
    assert_eq!(restore(missing), Err(RestoreError::ReservationMissing { reservation: id(9) }));

    let mut broken = layout(10).as_ref().clone();
    broken.runs[0].seats = 9;
    for options in
        [vec![option(OPTION, Arc::new(broken))], vec![option(OPTION, layout(10)), option(OPTION, layout(10))]]
    {
        let restored = Restored { options, ..Restored::default() };
        assert_eq!(restore(restored), Err(RestoreError::OptionInvalid { option: OPTION }));
    }
}

/// Fills the memory of answered keys by a restore, then asks once more.
#[test]
fn a_full_memory_of_keys_refuses_new_ones_and_evicts_none() {
    let answered = (1..ANSWERED_KEYS as u128)
        .map(|key| Answered {
            at: Time(1),
            caller: UserId(5),
            request: RequestMark { key: RequestKey(key), content: 1 },
            told: Told::Done,
        })
        .collect();
    let mut shard = shard();
    let options = vec![option(OPTION, layout(10))];
    shard.restore(Time(2), Restored { options, answered, ..Restored::default() }).unwrap();

    let mut effects = Vec::new();
    let mut ask = |key: Option<u128>, reservations_per_user, now| {
        let policy = Policy { reservations_per_user, gate: false };
        let caller = Caller { user: UserId(5), authority: Authority::Any };
        let command = Command::SetPolicy { concert: ConcertId(1), change: policy.into() };
        let request = Request { reply: ReplyTo(1), caller, key: key.map(RequestKey), pass: false, command };
        effects.clear();
        shard.step(Time(now), Input::Command(request), &mut effects);
        if let Some(Effect::Append(entry)) = effects.first() {
            let (upto, head) = (entry.no, ChainHead::default());
            shard.step(Time(now), Input::Applied { upto, head }, &mut effects);
        }
        effects.last().cloned()
    };
    let overloaded = Some(Effect::Reply {
        to: ReplyTo(1),
        outcome: Outcome::Unavailable(Unavailable::Overloaded),
        replayed: false,
    });
    let last_place = ANSWERED_KEYS as u128;
    assert_ne!(ask(Some(last_place), 1, 3), overloaded, "one place is left");
    assert_eq!(ask(Some(last_place + 1), 2, 4), overloaded, "now there is none");
    assert_ne!(ask(Some(last_place), 1, 5), overloaded, "a known key gets its first answer");
    assert_ne!(ask(None, 3, 6), overloaded, "the shard's own commands carry no key");
    let horizon = Settings::default().idempotency_horizon;
    assert_ne!(ask(Some(last_place + 1), 2, 1 + horizon.0), overloaded, "the horizon makes room");
    assert_eq!(shard.load().answered_keys, 2);
}

#[test]
fn an_answer_for_an_entry_that_was_never_sent_halts() {
    for input in [
        Input::Applied { upto: EntryNo(1), head: ChainHead::default() },
        Input::Refused { entry: EntryNo(1) },
    ] {
        let mut effects = Vec::new();
        shard().step(Time(0), input, &mut effects);
        let reason = engine::Reason::EntryUnknown(EntryNo(1));
        assert_eq!(effects, [Effect::Halt(reason)]);
    }
}
