//! What a scrape shows.

use engine::{Granted, OptionId, Refusal, SeatList, Unavailable};

use super::*;

#[test]
fn every_code_is_counted_under_its_name() {
    let metrics = Metrics::default();
    let op = Op::of(&Command::Select { option: OptionId(1), seats: SeatList::default() });
    let outcomes = [
        Outcome::Granted(Granted::Done),
        Outcome::Refused(Refusal::OptionUnknown),
        Outcome::Refused(Refusal::HoldExpired),
        Outcome::Unavailable(Unavailable::Overloaded),
        Outcome::Unavailable(Unavailable::Ledger),
    ];
    for outcome in &outcomes {
        metrics.command(op, outcome);
    }
    let mut registry = Registry::with_prefix("hotseat");
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for code in ["OK", "OPTION_UNKNOWN", "HOLD_EXPIRED", "OVERLOADED", "LEDGER_UNAVAILABLE"] {
        let line = format!("hotseat_commands_total{{op=\"select\",code=\"{code}\"}} 1");
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
    assert_eq!(text.matches("hotseat_commands_total{op=\"hold\"").count(), CODES.len());
    assert!(text.contains("hotseat_ledger_commit_seconds_count 0"));
    for (name, label, values) in [("lease_lost", "reason", &REASONS[..]), ("moves", "outcome", &ENDS[..])] {
        let shown = |value| text.contains(&format!("hotseat_{name}_total{{{label}=\"{value}\"}} 0"));
        assert!(values.iter().all(shown), "{name} before its first event");
    }
}

#[test]
fn a_scrape_reads_the_shards_that_serve() {
    let gauges = |shard, epoch| {
        Arc::new(ShardGauges {
            shard,
            undecided: Pool::new(2),
            owed: Pool::new(2),
            soft_locks: AtomicUsize::new(5),
            holds: AtomicUsize::new(1),
            epoch: AtomicU64::new(epoch),
        })
    };
    let shards = [gauges(7, 3), gauges(8, 0)];
    let _permits = (shards[0].undecided.take(), shards[0].owed.take());
    let metrics = Metrics::default();
    metrics.watch(Arc::new(shards));
    let mut registry = Registry::with_prefix("hotseat");
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "hotseat_shards_owned 1",
        "hotseat_soft_locks 5",
        "hotseat_holds 1",
        "hotseat_shard_inflight{shard=\"7\"} 2",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[test]
fn codes_stand_in_the_order_of_their_numbers() {
    let refusals = [
        (Refusal::OptionUnknown, 1),
        (Refusal::SeatTaken(engine::outcome::Conflicts::default()), 8),
        (Refusal::ReservationState(engine::Status::Hold), 13),
    ];
    for (refusal, number) in refusals {
        assert_eq!(CODES[number], refusal.code());
        assert_eq!(usize::from(refusal.number()), number);
    }
}
