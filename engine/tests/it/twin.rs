//! The shard against the naive twin on short random scripts, which shrink to the shortest that differs.

use std::fmt::Debug;
use std::sync::Arc;

use engine::entry::Restored;
use engine::option::{OptionStatus, Policy};
use engine::plan::{Layout, Run};
use engine::reservation::Status;
use engine::sim::auditor::Auditor;
use engine::sim::shadow::Shadow;
use engine::{
    Authority, Caller, ChainHead, Command, ConcertId, Effect, Effects, EntryNo, Epoch, Input, OptionId,
    ReplyTo, Request, RequestKey, ReservationId, SeatList, SeatNo, Settings, Shard, ShardId, Span, Time,
    UserId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const OPTION: OptionId = OptionId(7);
const CONCERT: ConcertId = ConcertId(70);

/// One line of a script.
#[derive(Clone, Debug)]
enum Line {
    Ask {
        user: u64,
        any: bool,
        key: Option<u8>,
        pass: bool,
        ask: Ask,
    },
    /// So many seconds pass.
    Wait(i64),
    /// The ledger has so many more entries.
    Ack(u64),
}

#[derive(Clone, Debug)]
enum Ask {
    Select(Vec<u32>),
    Best {
        party: u32,
        section: Option<u16>,
        category: Option<u8>,
    },
    Release(Option<Vec<u32>>),
    Hold(Vec<u32>),
    Block(Vec<u32>),
    /// A transition of the n-th reservation that was asked for.
    Move(u8, u128),
    Status(OptionStatus),
    Policy(u32, bool),
}

fn seats() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![8 => vec(0u32..8, 1..4), 1 => vec(0u32..13, 0..10)]
}

fn ask() -> impl Strategy<Value = Ask> {
    let best = (0u32..10, proptest::option::weighted(0.2, 0u16..3), proptest::option::weighted(0.2, 0u8..3));
    let status = prop_oneof![2 => Just(OptionStatus::OnSale), 1 => Just(OptionStatus::Closed)];
    prop_oneof![
        8 => seats().prop_map(Ask::Select),
        2 => best.prop_map(|(party, section, category)| Ask::Best { party, section, category }),
        2 => proptest::option::of(seats()).prop_map(Ask::Release),
        8 => seats().prop_map(Ask::Hold),
        1 => seats().prop_map(Ask::Block),
        12 => (0u8..5, 0u128..6).prop_map(|(verb, reservation)| Ask::Move(verb, reservation)),
        1 => status.prop_map(Ask::Status),
        1 => (0u32..3, any::<bool>()).prop_map(|(limit, gate)| Ask::Policy(limit, gate)),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let key = proptest::option::weighted(0.8, 0u8..12);
    let asked = (1u64..4, proptest::bool::weighted(0.3), key, proptest::bool::weighted(0.9), ask());
    prop_oneof![
        12 => asked.prop_map(|(user, any, key, pass, ask)| Line::Ask { user, any, key, pass, ask }),
        3 => (0i64..20).prop_map(Line::Wait),
        4 => (1u64..4).prop_map(Line::Ack),
    ]
}

/// Twelve seats in four runs, two sections, two prices.
fn layout() -> Layout {
    let run = |first, seats| Run { first: SeatNo(first), seats };
    Layout {
        categories: vec![0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1],
        runs: vec![run(0, 5), run(5, 3), run(8, 1), run(9, 3)],
        sections: vec![SeatNo(0), SeatNo(5)],
        prices: vec![100, 60],
    }
}

/// Everything runs out within a script.
fn settings() -> Settings {
    Settings {
        select_ttl: Span::from_secs(12),
        select_max_age: Span::from_secs(20),
        hold_ttl: Span::from_secs(15),
        paying_ttl: Span::from_secs(10),
        idempotency_horizon: Span::from_secs(40),
        reservations_per_user: 2,
    }
}

struct Pair {
    shard: Shard,
    shadow: Shadow,
    auditor: Auditor,
    effects: Effects,
    now: Time,
    appended: u64,
    acked: u64,
    asked: u64,
    reservation_count: u128,
}

impl Pair {
    fn new() -> Self {
        let mut shard = Shard::new(ShardId(0), Epoch(1), settings());
        shard.restore(Time(0), Restored::default()).unwrap();
        let mut pair = Self {
            shard,
            shadow: Shadow::restore(settings(), Time(0), &Restored::default()),
            auditor: Auditor::default(),
            effects: Effects::new(),
            now: Time(0),
            appended: 0,
            acked: 0,
            asked: 0,
            reservation_count: 0,
        };
        let command = Command::AddOption { option: OPTION, concert: CONCERT, layout: Arc::new(layout()) };
        pair.ask(0, true, None, true, command).unwrap();
        pair.line(&Line::Ack(1)).unwrap();
        pair
    }

    fn line(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Wait(seconds) => {
                self.now = self.now + Span::from_secs(*seconds);
                self.step(Input::Tick)
            }
            Line::Ack(count) => {
                self.acked = self.appended.min(self.acked + count);
                let head = ChainHead { event_seq: self.acked, hash: [0; 32] };
                self.step(Input::Applied { upto: EntryNo(self.acked), head })
            }
            Line::Ask { user, any, key, pass, ask } => {
                let command = self.command(ask);
                self.ask(*user, *any, *key, *pass, command)
            }
        }
    }

    fn command(&mut self, ask: &Ask) -> Command {
        let list = |seats: &[u32]| seats.iter().copied().map(SeatNo).collect::<SeatList>();
        let id = |number| ReservationId::stamp((number + 1) << 32, OPTION);
        let fresh = id(self.reservation_count);
        self.reservation_count += u128::from(matches!(ask, Ask::Hold(_) | Ask::Block(_)));
        match ask {
            Ask::Select(seats) => Command::Select { option: OPTION, seats: list(seats) },
            Ask::Best { party, section, category } => {
                Command::SelectBest { option: OPTION, party: *party, section: *section, category: *category }
            }
            Ask::Release(seats) => {
                Command::Release { option: OPTION, seats: seats.as_ref().map(|seats| list(seats)) }
            }
            Ask::Hold(seats) => Command::Hold { option: OPTION, seats: list(seats), reservation: fresh },
            Ask::Block(seats) => Command::Block { option: OPTION, seats: list(seats), reservation: fresh },
            Ask::Move(0, number) => Command::StartPaying { reservation: id(*number) },
            Ask::Move(1, number) => Command::Confirm { reservation: id(*number) },
            Ask::Move(2, number) => Command::Cancel { reservation: id(*number) },
            Ask::Move(3, number) => Command::Refund { reservation: id(*number) },
            Ask::Move(_, number) => Command::Unblock { reservation: id(*number) },
            Ask::Status(status) => Command::SetOptionStatus { option: OPTION, status: *status },
            Ask::Policy(reservations_per_user, gate) => {
                let policy = Policy { reservations_per_user: *reservations_per_user, gate: *gate };
                Command::SetPolicy { concert: CONCERT, change: policy.into() }
            }
        }
    }

    fn ask(
        &mut self,
        user: u64,
        any: bool,
        key: Option<u8>,
        pass: bool,
        command: Command,
    ) -> Result<(), String> {
        self.asked += 1;
        let authority = if any { Authority::Any } else { Authority::Own };
        let caller = Caller { user: UserId(user), authority };
        let key = key.map(|key| RequestKey(key.into()));
        self.step(Input::Command(Request { reply: ReplyTo(self.asked), caller, key, pass, command }))
    }

    fn step(&mut self, input: Input) -> Result<(), String> {
        self.effects.clear();
        self.shard.step(self.now, input.clone(), &mut self.effects);
        self.appended +=
            self.effects.iter().filter(|effect| matches!(effect, Effect::Append(_))).count() as u64;
        let predicted = self.shadow.step(self.now, &input);
        self.auditor.check_effects(&self.effects, predicted, &mut self.shadow)?;
        self.auditor.check_state(&self.shard, &self.shadow, self.now)
    }
}

/// Always the same cases, unless `HOTSEAT_TEST_SEED` says which others.
#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn check_all<S: Strategy>(strategy: &S, check: impl Fn(S::Value) -> Result<(), String>)
where
    S::Value: Debug,
{
    let named = std::env::var("HOTSEAT_TEST_SEED").unwrap_or_default();
    let seed: Vec<u8> = named.bytes().chain([0; 32]).take(32).collect();
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(strategy, |value| check(value).map_err(TestCaseError::fail));
    if let Err(error) = result {
        panic!("HOTSEAT_TEST_SEED={named} {error}");
    }
}

#[test]
fn the_shard_does_what_the_twin_says() {
    check_all(&vec(line(), 1..60), |script| {
        let mut pair = Pair::new();
        script.iter().try_for_each(|line| pair.line(line))
    });
}

/// A command that waits behind an entry is judged as of when it came, also on the very deadline.
#[test]
fn a_command_that_comes_on_the_deadline_is_late() {
    let ask = |ask| Line::Ask { user: 1, any: false, key: None, pass: true, ask };
    for (seconds, late) in [(14, false), (15, true)] {
        let mut pair = Pair::new();
        // The hold ends at 15 s; the ledger has it only after that.
        let script = [
            ask(Ask::Select(vec![0])),
            ask(Ask::Hold(vec![0])),
            Line::Wait(seconds),
            ask(Ask::Move(1, 0)),
            Line::Wait(5),
            Line::Ack(1),
            Line::Ack(1),
        ];
        script.iter().try_for_each(|line| pair.line(line)).unwrap();
        let status = pair.shard.reservations().next().map(|row| row.status);
        let expected = if late { Status::Expired } else { Status::Confirmed };
        assert_eq!(status, Some(expected), "asked after {seconds} s");
    }
}
