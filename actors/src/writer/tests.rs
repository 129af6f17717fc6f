//! The machine against a ledger in a few lines that fails in every way a ledger can.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::entry::Fact;
use engine::option::OptionStatus;
use engine::{ChainHead, ConcertId, Entry, EntryNo, Epoch, OptionId, ShardId, Time, UserId};
use tokio::time::Instant;

use super::machine::{BATCH_ENTRIES, Machine, News, Verdict};
use super::seal;
use crate::ports::{AppendError, Batch, ShardAnswer};
use crate::row::EventRow;

const A: ShardId = ShardId(1);
const B: ShardId = ShardId(2);
const E1: Epoch = Epoch(1);

fn entry(no: u64, version: u32) -> Box<Entry> {
    let fact = Fact::Option {
        option: OptionId(u32::try_from(no).unwrap()),
        concert: ConcertId(1),
        status: OptionStatus::OnSale,
        version,
    };
    Box::new(Entry { no: EntryNo(no), at: Time(0), caller: UserId(0), request: None, fact })
}

fn opened(shards: &[ShardId]) -> Machine {
    let mut machine = Machine::default();
    for shard in shards {
        machine.open(*shard, E1, ChainHead::default());
    }
    machine
}

fn fill(machine: &mut Machine, shard: ShardId, numbers: std::ops::RangeInclusive<u64>) {
    for no in numbers {
        assert_eq!(machine.push(shard, E1, entry(no, 1)), None);
    }
}

/// The rows of a batch as (shard, event_seq).
fn rows(batch: &Batch) -> Vec<(u16, u64)> {
    batch.rows.iter().map(|row| (row.shard.0, row.event_seq)).collect()
}

fn applied(batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
    Ok(batch.fences.iter().map(|(shard, _)| (*shard, ShardAnswer::Applied)).collect())
}

fn refused() -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
    Err(AppendError::Refused("state differs".into()))
}

fn unknown(rolled_back: bool) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
    Err(AppendError::Unknown { reason: "gone".into(), rolled_back })
}

fn answer(
    machine: &mut Machine,
    now: Instant,
    result: Result<Vec<(ShardId, ShardAnswer)>, AppendError>,
) -> Vec<(u16, News)> {
    let mut verdicts = Vec::new();
    machine.answered(now, result, &mut verdicts);
    verdicts.into_iter().map(|verdict: Verdict| (verdict.shard.0, verdict.news)).collect()
}

fn upto(batch: &Batch, shard: ShardId) -> News {
    let last = batch.rows.iter().rfind(|row| row.shard == shard).unwrap();
    let head = ChainHead { event_seq: last.event_seq, hash: last.hash };
    News::Applied { upto: EntryNo(last.event_seq), head }
}

#[test]
fn entries_collect_while_a_batch_is_in_flight() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=1);
    let first = machine.next(now).unwrap();
    assert_eq!(rows(&first), [(1, 1)]);
    fill(&mut machine, A, 2..=3);
    fill(&mut machine, B, 1..=2);
    assert_eq!((machine.next(now), machine.wake(now)), (None, None));
    assert_eq!(answer(&mut machine, now, applied(&first)), [(1, upto(&first, A))]);
    let second = machine.next(now).unwrap();
    assert_eq!(rows(&second), [(1, 2), (1, 3), (2, 1), (2, 2)]);
    assert_eq!(second.fences, [(A, E1), (B, E1)]);
    assert_eq!(second.rows[0].prev_hash, first.rows[0].hash);
    assert_eq!(answer(&mut machine, now, applied(&second)), [(1, upto(&second, A)), (2, upto(&second, B))]);
    assert_eq!((machine.next(now), machine.backlog()), (None, 0));
}

#[test]
fn a_flood_of_one_shard_leaves_room_for_the_others() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=2_000);
    fill(&mut machine, B, 1..=3);
    let batch = machine.next(now).unwrap();
    assert_eq!(batch.rows.len(), BATCH_ENTRIES);
    assert_eq!(batch.rows.iter().filter(|row| row.shard == B).count(), 3);
}

#[test]
fn what_is_unknown_is_written_again_byte_for_byte() {
    let mut now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=3);
    let first = machine.next(now).unwrap();
    for _ in 0..20 {
        assert_eq!(answer(&mut machine, now, unknown(false)), []);
        assert_eq!(machine.next(now), None, "waits before it tries again");
        fill(&mut machine, B, 1..=1);
        now = machine.wake(now).unwrap();
        let mut again = machine.next(now).unwrap();
        if again.fences == [(B, E1)] {
            answer(&mut machine, now, applied(&again));
            now += Duration::from_secs(2);
            again = machine.next(now).unwrap();
        }
        assert_eq!(again, first);
        machine.open(B, E1, ChainHead::default());
    }
    assert_eq!(answer(&mut machine, now, applied(&first)), [(1, upto(&first, A))]);
}

#[test]
fn the_next_entries_of_a_shard_wait_for_its_unknown_ones_and_other_shards_go_on() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=1);
    machine.next(now).unwrap();
    fill(&mut machine, A, 2..=2);
    answer(&mut machine, now, unknown(false));
    answer(&mut machine, now, unknown(false));
    fill(&mut machine, B, 1..=1);
    let later = now + Duration::from_millis(60);
    let retry = machine.next(later).unwrap();
    assert_eq!(rows(&retry), [(1, 1)]);
    answer(&mut machine, later, unknown(false));
    let other = machine.next(later + Duration::from_millis(100)).map(|batch| rows(&batch));
    assert_eq!(other.unwrap(), [(1, 1)], "older rows come first when both may go");
    answer(&mut machine, later + Duration::from_millis(100), unknown(false));
    // The third failure of the piece waits longer than the pause of everybody.
    fill(&mut machine, B, 2..=2);
    let wake = machine.wake(later + Duration::from_millis(100)).unwrap();
    assert!(machine.next(wake).is_some());
}

#[test]
fn a_batch_that_was_rolled_back_twice_is_halved() {
    let mut now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=40);
    fill(&mut machine, B, 1..=2);
    machine.next(now).unwrap();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        answer(&mut machine, now, unknown(true));
        now = machine.wake(now).unwrap();
        sizes.push(machine.next(now).unwrap().rows.len());
    }
    // Once as it was, then by shard, then by rows, never below the floor.
    assert_eq!(sizes[..2], [42, 40]);
    let mut seen = Vec::new();
    let mut answered = false;
    while machine.backlog() > 0 {
        if answered {
            now = machine.wake(now).unwrap();
            let batch = machine.next(now).unwrap();
            seen.extend(rows(&batch));
            answer(&mut machine, now, applied(&batch));
        } else {
            answer(&mut machine, now, unknown(false));
            answered = true;
        }
    }
    let expected: Vec<(u16, u64)> = (1..=40).map(|seq| (1, seq)).chain([(2, 1), (2, 2)]).collect();
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn a_refused_batch_is_split_until_the_entry_is_found() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=7);
    fill(&mut machine, B, 1..=2);
    let mut news = Vec::new();
    let mut written = Vec::new();
    while let Some(batch) = machine.next(now) {
        let poisoned = batch.rows.iter().any(|row| row.shard == A && row.event_seq == 5);
        if !poisoned {
            written.extend(rows(&batch));
        }
        let result = if poisoned { refused() } else { applied(&batch) };
        news.extend(answer(&mut machine, now, result));
        fill(&mut machine, A, 8..=8);
    }
    assert_eq!(written, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]);
    assert!(news.contains(&(1, News::Refused { entry: EntryNo(5) })));
    assert_eq!(machine.backlog(), 0, "later entries of the shard are dropped");
    machine.open(A, Epoch(2), ChainHead { event_seq: 4, hash: [9; 32] });
    assert_eq!(machine.push(A, Epoch(2), entry(1, 1)), None);
    let batch = machine.next(now).unwrap();
    assert_eq!((batch.rows[0].event_seq, batch.rows[0].prev_hash), (5, [9; 32]));
}

#[test]
fn another_hash_halts_its_shard_only() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=4);
    fill(&mut machine, B, 1..=1);
    let mut news = Vec::new();
    while let Some(batch) = machine.next(now) {
        let clash = batch.fences.contains(&(A, E1));
        let result = if clash { Err(AppendError::OtherHash("1.1".into())) } else { applied(&batch) };
        news.extend(answer(&mut machine, now, result));
    }
    assert_eq!(news.len(), 2);
    assert_eq!(news[0], (1, News::OtherHash));
    assert!(matches!(news[1], (2, News::Applied { upto: EntryNo(1), .. })));
}

#[test]
fn a_fenced_shard_halts_and_the_rest_of_the_batch_counts() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=2);
    fill(&mut machine, B, 1..=1);
    let batch = machine.next(now).unwrap();
    fill(&mut machine, A, 3..=3);
    let result = Ok(vec![(A, ShardAnswer::Fenced), (B, ShardAnswer::Duplicate)]);
    assert_eq!(answer(&mut machine, now, result), [(1, News::Fenced), (2, upto(&batch, B))]);
    assert_eq!(machine.next(now), None);
    assert_eq!(machine.push(A, E1, entry(4, 1)), None, "told once is enough");
    assert_eq!(machine.backlog(), 0);
}

#[test]
fn a_new_epoch_fences_what_the_dead_left() {
    let mut now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=2);
    fill(&mut machine, B, 1..=1);
    machine.next(now).unwrap();
    answer(&mut machine, now, unknown(false));
    fill(&mut machine, A, 3..=3);
    machine.open(A, Epoch(2), ChainHead::default());
    let fenced = Verdict { shard: A, epoch: E1, news: News::Fenced };
    assert_eq!(machine.push(A, E1, entry(4, 1)), Some(fenced));
    now = machine.wake(now).unwrap();
    let batch = machine.next(now).unwrap();
    assert_eq!((rows(&batch), batch.fences.clone()), (vec![(2, 1)], vec![(B, E1)]));
    // An answer to the dead one's rows is nobody's news.
    machine.push(A, Epoch(2), entry(1, 1));
    answer(&mut machine, now, applied(&batch));
    let batch = machine.next(now).unwrap();
    machine.open(A, Epoch(3), ChainHead::default());
    assert_eq!(answer(&mut machine, now, applied(&batch)), []);
    assert_eq!(machine.backlog(), 0);
}

#[test]
fn an_answer_that_leaves_a_shard_out_is_asked_again() {
    let now = Instant::now();
    let mut machine = opened(&[A, B]);
    fill(&mut machine, A, 1..=1);
    fill(&mut machine, B, 1..=1);
    let batch = machine.next(now).unwrap();
    assert_eq!(answer(&mut machine, now, Ok(vec![(A, ShardAnswer::Applied)])), [(1, upto(&batch, A))]);
    assert_eq!(rows(&machine.next(now).unwrap()), [(2, 1)]);
}

/// A ledger in a map: fences, numbers and hashes as the real ones have them.
#[derive(Default)]
struct World {
    chains: BTreeMap<ShardId, Vec<EventRow>>,
    epochs: BTreeMap<ShardId, Epoch>,
}

impl World {
    /// Entries of version 0 are those that memory should never have allowed.
    fn append(&mut self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        let mut answers = Vec::new();
        let mut fresh = Vec::new();
        for (shard, epoch) in &batch.fences {
            let chain = self.chains.entry(*shard).or_default();
            let mine: Vec<&EventRow> = batch.rows.iter().filter(|row| row.shard == *shard).collect();
            if self.epochs[shard] != *epoch {
                answers.push((*shard, ShardAnswer::Fenced));
                continue;
            }
            let known = mine.iter().filter(|row| row.event_seq <= chain.len() as u64).count();
            if mine[..known]
                .iter()
                .any(|row| chain[usize::try_from(row.event_seq).unwrap() - 1].hash != row.hash)
            {
                return Err(AppendError::OtherHash("another event".into()));
            }
            assert!(known == 0 || known == mine.len(), "all or nothing");
            if mine.iter().any(|row| row.version == 0) {
                return Err(AppendError::Refused("version".into()));
            }
            if known == 0 {
                assert_eq!(mine[0].event_seq, chain.len() as u64 + 1, "no gaps");
                fresh.extend(mine.into_iter().cloned());
            }
            answers.push((*shard, if known == 0 { ShardAnswer::Applied } else { ShardAnswer::Duplicate }));
        }
        for row in fresh {
            self.chains.entry(row.shard).or_default().push(row);
        }
        Ok(answers)
    }

    fn head(&self, shard: ShardId) -> ChainHead {
        self.chains
            .get(&shard)
            .and_then(|chain| chain.last())
            .map_or(ChainHead::default(), |row| ChainHead { event_seq: row.event_seq, hash: row.hash })
    }
}

struct Prng(u64);

impl Prng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One incarnation of a shard as its actor would see it.
struct Actor {
    epoch: Epoch,
    base: u64,
    sent: u64,
    acked: u64,
    poisoned: Option<u64>,
}

impl Actor {
    /// Queues one more entry, now and then one that the ledger will refuse.
    fn send(&mut self, shard: ShardId, machine: &mut Machine, random: &mut Prng) {
        self.sent += 1;
        let poison = self.poisoned.is_none() && random.below(80) == 0;
        if poison {
            self.poisoned = Some(self.sent);
        }
        let pushed = machine.push(shard, self.epoch, entry(self.sent, u32::from(!poison)));
        assert_eq!(pushed, None);
    }
}

/// One world, one machine, four shards, three hundred steps of everything that can go wrong.
fn run(seed: u64) -> usize {
    let mut random = Prng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut now = Instant::now();
    let (mut world, mut machine) = (World::default(), Machine::default());
    let mut actors: BTreeMap<ShardId, Actor> = BTreeMap::new();
    let mut halts = 0;
    let restore = |world: &mut World, machine: &mut Machine, shard: ShardId| {
        let epoch = Epoch(world.epochs.get(&shard).map_or(1, |epoch| epoch.0 + 1));
        world.epochs.insert(shard, epoch);
        let head = world.head(shard);
        machine.open(shard, epoch, head);
        Actor { epoch, base: head.event_seq, sent: 0, acked: 0, poisoned: None }
    };
    for shard in 0..4 {
        actors.insert(ShardId(shard), restore(&mut world, &mut machine, ShardId(shard)));
    }
    for step in 0..600 {
        let calm = step >= 300;
        if !calm {
            let shard = ShardId(u16::try_from(random.below(4)).unwrap());
            if random.below(60) == 0 {
                // A crash: the ledger knows the new epoch before the writer does.
                actors.insert(shard, restore(&mut world, &mut machine, shard));
            }
            let actor = actors.get_mut(&shard).unwrap();
            for _ in 0..random.below(8) {
                actor.send(shard, &mut machine, &mut random);
            }
        }
        let Some(batch) = machine.next(now) else {
            now = machine.wake(now).map_or(now, |wake| wake.max(now));
            continue;
        };
        for row in &batch.rows {
            assert_eq!(row.hash, seal::hash(row));
        }
        let fault = if calm { 9 } else { random.below(10) };
        let result = match fault {
            0 => unknown(random.below(2) == 0),
            1 => world.append(&batch).and_then(|_| unknown(false)),
            _ => world.append(&batch),
        };
        let mut verdicts = Vec::new();
        machine.answered(now, result, &mut verdicts);
        for verdict in verdicts {
            let actor = actors.get_mut(&verdict.shard).unwrap();
            assert_eq!(verdict.epoch, actor.epoch, "the dead get no news");
            match verdict.news {
                News::Applied { upto, head } => {
                    assert!(upto.0 > actor.acked && upto.0 <= actor.sent);
                    assert!(actor.poisoned.is_none_or(|poison| upto.0 < poison));
                    assert_eq!(head.event_seq, actor.base + upto.0);
                    let row = &world.chains[&verdict.shard][usize::try_from(head.event_seq).unwrap() - 1];
                    assert_eq!(head.hash, row.hash);
                    actor.acked = upto.0;
                }
                News::Refused { entry } => {
                    assert_eq!(Some(entry.0), actor.poisoned, "the culprit and nobody else");
                    assert_eq!(actor.acked + 1, entry.0, "those before it came through");
                    halts += 1;
                    actors.insert(verdict.shard, restore(&mut world, &mut machine, verdict.shard));
                }
                News::Fenced | News::OtherHash => panic!("{verdict:?} of a living shard"),
            }
        }
    }
    assert_eq!(machine.backlog(), 0, "seed {seed}: everything comes to an end");
    check_ends(seed, &world, &actors);
    halts
}

fn check_ends(seed: u64, world: &World, actors: &BTreeMap<ShardId, Actor>) {
    for (shard, actor) in actors {
        assert_eq!(actor.acked, actor.sent, "seed {seed} shard {shard}");
        for pair in world.chains[shard].windows(2) {
            assert_eq!(pair[1].prev_hash, pair[0].hash);
        }
    }
}

#[test]
fn random_worlds() {
    let halts: usize = (1..=100).map(run).sum();
    assert!(halts > 100, "the poison was found only {halts} times: the test tests nothing");
}
