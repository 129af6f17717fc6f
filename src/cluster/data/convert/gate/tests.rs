//! Everything that travels comes back as it was.

use std::fmt::Debug;

use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::cluster::data::wire::{decode, encode};

const STATES: [State; 4] = [State::Open, State::Paused, State::Off, State::Closed];
const MODES: [Mode; 2] = [Mode::Fifo, Mode::PresaleDraw];
const LEFT: [Left; 3] = [Left::Line, Left::Sale, Left::Nothing];
const FAULTS: [PolicyFault; 6] = [
    PolicyFault::RateOutOfBounds,
    PolicyFault::CeilingOutOfBounds,
    PolicyFault::NoBound,
    PolicyFault::OpeningMissing,
    PolicyFault::RanksTold,
    PolicyFault::DrawUnderWay,
];

fn one_of<T: Copy + Debug + 'static>(those: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(those)
}

fn user() -> impl Strategy<Value = UserId> {
    any::<u64>().prop_map(UserId)
}

fn policy() -> impl Strategy<Value = Policy> {
    let bounds = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<i64>()));
    (one_of(&STATES), one_of(&MODES), bounds).prop_map(|(state, mode, (per_second, max_active, opens_at))| {
        Policy { state, mode, per_second, max_active, opens_at: opens_at.map(Time) }
    })
}

fn row() -> impl Strategy<Value = GateRow> {
    (any::<u64>(), any::<u64>(), policy(), any::<i64>()).prop_map(|(concert, version, policy, changed_at)| {
        GateRow { concert: ConcertId(concert), version, policy, changed_at: Time(changed_at) }
    })
}

fn ask() -> impl Strategy<Value = GateAsk> {
    prop_oneof![
        user().prop_map(GateAsk::Join),
        user().prop_map(GateAsk::Status),
        user().prop_map(GateAsk::Leave),
        proptest::collection::vec(user(), 0..100).prop_map(GateAsk::Heartbeats),
        (policy(), user()).prop_map(|(policy, by)| GateAsk::Set { policy, by }),
        (any::<u64>(), option::of(any::<[u8; 32]>()))
            .prop_map(|(round, value)| GateAsk::Beacon { round, value }),
        Just(GateAsk::Info),
    ]
}

fn standing() -> impl Strategy<Value = Standing> {
    let eta = (any::<i64>(), any::<i64>()).prop_map(|(low, high)| Eta { low: Span(low), high: Span(high) });
    prop_oneof![
        (any::<u32>(), option::of(any::<u32>()), option::of(eta))
            .prop_map(|(turn, ahead, eta)| Standing::Waiting { turn: Turn(turn), ahead, eta }),
        (any::<u64>(), any::<i64>(), any::<i64>()).prop_map(|(id, expires_at, ends_at)| {
            let (expires_at, ends_at) = (Time(expires_at), Time(ends_at));
            Standing::Active(Pass { id: PassId(id), expires_at, ends_at })
        }),
        Just(Standing::Free),
        Just(Standing::Rejected),
        Just(Standing::Absent),
    ]
}

fn info() -> impl Strategy<Value = GateInfo> {
    let load = (any::<usize>(), any::<usize>(), any::<u64>(), any::<u64>());
    let load = load.prop_map(|(waiting, passes, admitted, unmirrored)| Load {
        waiting,
        passes,
        admitted,
        unmirrored,
    });
    (option::of(row()), load, any::<bool>()).prop_map(|(row, load, durable)| GateInfo { row, load, durable })
}

fn said() -> impl Strategy<Value = Result<GateSaid, Unavailable>> {
    prop_oneof![
        (standing(), any::<bool>())
            .prop_map(|(standing, durable)| Ok(GateSaid::Standing { standing, durable })),
        (one_of(&LEFT), any::<bool>()).prop_map(|(left, durable)| Ok(GateSaid::Left { left, durable })),
        Just(Ok(GateSaid::Heard)),
        (any::<bool>(), row()).prop_map(|(changed, row)| Ok(GateSaid::Set { changed, row })),
        one_of(&FAULTS).prop_map(|fault| Ok(GateSaid::Refused(fault))),
        Just(Ok(GateSaid::NoSuchRound)),
        info().prop_map(|info| Ok(GateSaid::Info(info))),
        one_of(&[Unavailable::Overloaded, Unavailable::Ledger]).prop_map(Err),
    ]
}

proptest! {
    #[test]
    fn every_question_travels(ask in ask()) {
        let bytes = encode(&ask_out(&ask)).unwrap();
        prop_assert_eq!(ask_in(decode(&bytes).unwrap()), Ok(ask));
    }

    #[test]
    fn everything_that_a_gate_says_travels(said in said()) {
        let bytes = encode(&said_out(&said)).unwrap();
        prop_assert_eq!(said_in(&decode(&bytes).unwrap()), Ok(said));
    }
}

#[test]
fn a_number_that_means_nothing_makes_the_message_none() {
    fn check<T: PartialEq + Debug>(
        those: &[T],
        number: impl Fn(&T) -> u8,
        read: impl Fn(u8) -> Result<T, Unknown>,
    ) {
        for (expected, one) in (1..).zip(those) {
            assert_eq!(number(one), expected, "{one:?} has had another number");
            assert_eq!(read(expected).as_ref(), Ok(one));
        }
        let behind = u8::try_from(those.len()).unwrap() + 1;
        for unknown in [0, behind, 255] {
            assert!(read(unknown).is_err(), "{unknown}");
        }
    }
    check(&STATES, |state| state.number(), |number| State::from_number(number).ok_or(Unknown("a state")));
    check(&MODES, |mode| mode.number(), |number| Mode::from_number(number).ok_or(Unknown("a mode")));
    check(&LEFT, |left| left_out(*left), left_in);
    check(&FAULTS, |fault| fault_out(*fault), fault_in);
    let policy = wire::Policy { state: 1, mode: 3, per_second: None, max_active: None, opens_at: None };
    assert!(ask_in(wire::Ask::Set { policy, by: 1 }).is_err());
    assert!(said_in(&wire::Said::Left { left: 0, durable: true }).is_err());
    assert!(said_in(&wire::Said::Refused(7)).is_err());
}
