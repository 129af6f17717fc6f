//! What two thousand simulated shards asked of the simulator's ledger, asked of a real one: retries, late copies,
//! writers that were fenced, everything in the same order. Each answer must be the same, and so must be what a new
//! owner would find in the end.
//!
//! A seed's concerts get shards of their own here, so that its one chain becomes several, and many seeds run side by
//! side: their batches travel together, as those of many shards do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actors::ports::{Batch, ShardAnswer};
use actors::row::EventRow;
use actors::writer::seal::seal;
use engine::entry::{Restored, RestoredOption, RestoredPolicy, Told};
use engine::plan::Layout;
use engine::sim::ledger::{Answer, Call, Ledger};
use engine::{
    ChainHead, ConcertId, Entry, EntryNo, Epoch, Fact, OptionId, Reservation, ReservationId, SeatNo,
    Settings, ShardId, Span, Time,
};
use hotseat::catalogue::Import;
use hotseat::catalogue::plan::{Category, Plan, Row, Seat, Section};

use crate::audits::audit_of;
use crate::world::{Store, T0, World};

/// So many shards that each concert of [`SEEDS`] seeds has its own.
const SHARDS: u16 = 4_096;
const SEEDS: u64 = 2_000;
/// Seeds that run side by side.
const TOGETHER: usize = 32;

pub async fn two_thousand_seeds_agree(world: &impl World) {
    let store = world.open_wide(SHARDS).await;
    let mut heads = BTreeMap::new();
    let (mut applied, mut duplicate, mut fenced) = (0, 0, 0);
    let seeds: Vec<u64> = (0..SEEDS).collect();
    for seeds in seeds.chunks(TOGETHER) {
        let mut group = Vec::new();
        for seed in seeds {
            group.push(Replay::new(*seed, &store).await);
        }
        while let Some((batch, expected)) = next_batch(&mut group, &store).await {
            let answers = store.append(&batch).await.unwrap();
            assert_eq!(answers, expected, "seeds {seeds:?}: {batch:?}");
            for (_, answer) in answers {
                match answer {
                    ShardAnswer::Applied => applied += 1,
                    ShardAnswer::Duplicate => duplicate += 1,
                    ShardAnswer::Fenced => fenced += 1,
                }
            }
        }
        for replay in &group {
            replay.compare(&store).await;
            heads.extend(replay.heads());
        }
    }
    assert!(applied > 10_000 && duplicate > 500 && fenced > 100, "{applied}, {duplicate}, {fenced}");
    assert_eq!(store.heads().await.unwrap(), heads.into_iter().collect::<Vec<_>>());
    let report = audit_of(&store, &[]).await;
    assert!(report.is_clean(), "{report}");
}

/// One call of each seed that has any left, in one batch, and what must be said to it.
async fn next_batch(
    group: &mut [Replay],
    store: &Arc<dyn Store>,
) -> Option<(Batch, Vec<(ShardId, ShardAnswer)>)> {
    loop {
        let mut parts = Vec::new();
        let mut has_more = false;
        for replay in group.iter_mut() {
            has_more |= replay.step(store, &mut parts).await;
        }
        parts.sort_unstable_by_key(|part: &Part| part.shard);
        if !parts.is_empty() {
            let fences = parts.iter().map(|part| (part.shard, part.epoch)).collect();
            let expected = parts.iter().map(|part| (part.shard, part.answer)).collect();
            let rows = parts.into_iter().flat_map(|part| part.rows).collect();
            return Some((Batch { fences, rows }, expected));
        }
        if !has_more {
            return None;
        }
    }
}

/// A seed's tape on its way into the real ledger.
struct Replay {
    seed: u64,
    fake: Ledger,
    calls: std::vec::IntoIter<Call>,
    lanes: BTreeMap<ConcertId, Lane>,
}

/// One shard's part of a batch.
struct Part {
    shard: ShardId,
    epoch: Epoch,
    rows: Vec<EventRow>,
    answer: ShardAnswer,
}

/// A concert of the simulation, as the real ledger has it.
struct Lane {
    concert: ConcertId,
    shard: ShardId,
    options: BTreeMap<OptionId, (OptionId, Arc<Layout>)>,
    /// The owner's epoch now.
    epoch: Option<Epoch>,
    head: ChainHead,
    /// By the simulation's epoch.
    writers: BTreeMap<Epoch, Writer>,
}

/// What one incarnation has sealed. The same entry again is the same row.
struct Writer {
    epoch: Epoch,
    sealed: ChainHead,
    rows: BTreeMap<EntryNo, EventRow>,
    applied: BTreeSet<EntryNo>,
}

impl Replay {
    async fn new(seed: u64, store: &Arc<dyn Store>) -> Self {
        let mut fake = engine::sim::run_taped(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let calls = fake.tape.take().unwrap();
        let mut plans: BTreeMap<ConcertId, BTreeSet<OptionId>> = BTreeMap::new();
        for call in &calls {
            let Call::Append { entries, .. } = call else { continue };
            for entry in entries {
                let options = plans.entry(concert_of(&entry.fact)).or_default();
                if let Fact::Option { option, .. } = &entry.fact {
                    options.insert(*option);
                }
            }
        }
        let mut lanes = BTreeMap::new();
        for (concert, mut options) in plans {
            if options.is_empty() {
                // A policy without an option. It is never told to the shard.
                options.insert(OptionId(u32::MAX));
            }
            let lane = Lane::import(store, &format!("Seed {seed}, concert {concert}"), &fake, options).await;
            lanes.insert(concert, lane);
        }
        Self { seed, fake, calls: calls.into_iter(), lanes }
    }

    /// Does what stands before the next append, and adds that to `parts`. Whether there was anything to do.
    async fn step(&mut self, store: &Arc<dyn Store>, parts: &mut Vec<Part>) -> bool {
        match self.calls.next() {
            None => false,
            Some(Call::Acquire(epoch)) => {
                for lane in self.lanes.values_mut() {
                    lane.acquire(store, epoch).await;
                }
                true
            }
            Some(Call::Append { epoch, entries, answer }) => {
                for (concert, lane) in &mut self.lanes {
                    let mine = entries.iter().filter(|entry| concert_of(&entry.fact) == *concert);
                    parts.extend(lane.append(epoch, mine, &answer));
                }
                true
            }
        }
    }

    /// What a new owner finds, with all of the past and with half of it.
    async fn compare(&self, store: &Arc<dyn Store>) {
        let middle = self.fake.events.get(self.fake.events.len() / 2).map_or(Time(0), |event| event.entry.at);
        for now in [Time(-1), middle] {
            let settings = Settings { idempotency_horizon: Span(0), ..Settings::default() };
            let all = self.fake.load(now, &settings);
            for (concert, lane) in &self.lanes {
                let mut found = store.load(lane.shard, now + Span(1)).await.unwrap();
                let mut expected = lane.expected(*concert, &all, &self.fake, now);
                found.reservations.sort_unstable_by_key(|row| row.id);
                expected.reservations.sort_unstable_by_key(|row| row.id);
                assert_eq!(found, expected, "seed {}, concert {concert}, since {now}", self.seed);
            }
        }
    }

    fn heads(&self) -> impl Iterator<Item = (ShardId, ChainHead)> {
        self.lanes.values().filter(|lane| lane.head.event_seq > 0).map(|lane| (lane.shard, lane.head))
    }
}

impl Lane {
    async fn import(store: &Arc<dyn Store>, title: &str, fake: &Ledger, options: BTreeSet<OptionId>) -> Self {
        let mut lane = Self {
            concert: ConcertId(0),
            shard: ShardId(0),
            options: BTreeMap::new(),
            epoch: None,
            head: ChainHead::default(),
            writers: BTreeMap::new(),
        };
        for (day, option) in (0..).zip(options) {
            let layout = fake.layout(option).cloned();
            let plan = plan(title, layout.as_deref());
            let layout = layout.unwrap_or_else(|| Arc::new(plan.layout()));
            let import = Import {
                title: title.to_owned(),
                starts_at: Time(T0 + day),
                plan: Arc::new(plan),
                own_shard: lane.options.is_empty(),
            };
            let imported = store.import(&import).await.unwrap();
            (lane.concert, lane.shard) = (imported.concert.concert, imported.concert.shard);
            lane.options.insert(option, (imported.option.option, layout));
        }
        lane
    }

    async fn acquire(&mut self, store: &Arc<dyn Store>, simulated: Epoch) {
        let epoch = match self.epoch {
            None => store.acquire(self.shard).await.unwrap(),
            Some(mine) => store.acquire_again(self.shard, mine).await.unwrap(),
        };
        let epoch = epoch.expect("nobody else is there");
        self.epoch = Some(epoch);
        let (rows, applied) = Default::default();
        self.writers.insert(simulated, Writer { epoch, sealed: self.head, rows, applied });
    }

    fn append<'a>(
        &mut self,
        epoch: Epoch,
        entries: impl Iterator<Item = &'a Entry>,
        answer: &Answer,
    ) -> Option<Part> {
        let entries: Vec<Entry> = entries.map(|entry| self.translated(entry)).collect();
        let last = entries.last()?.no;
        let writer = self.writers.get_mut(&epoch).expect("it was acquired");
        for entry in &entries {
            if !writer.rows.contains_key(&entry.no) {
                let mut row = EventRow::unsealed(self.shard, writer.epoch, entry);
                writer.sealed = seal(&mut row, writer.sealed);
                writer.rows.insert(entry.no, row);
            }
        }
        let rows: Vec<EventRow> = entries.iter().map(|entry| writer.rows[&entry.no].clone()).collect();
        let answer = match answer {
            Answer::Fenced => ShardAnswer::Fenced,
            Answer::Applied if writer.applied.contains(&last) => ShardAnswer::Duplicate,
            Answer::Applied => {
                writer.applied.extend(entries.iter().map(|entry| entry.no));
                let row = &writer.rows[&last];
                self.head = ChainHead { event_seq: row.event_seq, hash: row.hash };
                ShardAnswer::Applied
            }
            Answer::Refused(why) => panic!("a clean run refuses nothing: {why}"),
        };
        Some(Part { shard: self.shard, epoch: writer.epoch, rows, answer })
    }

    /// The same with the ids that the real ledger gave.
    fn translated(&self, entry: &Entry) -> Entry {
        let fact = match &entry.fact {
            Fact::Reservation(row) => Fact::Reservation(self.reservation(row)),
            Fact::Option { option, status, version, .. } => Fact::Option {
                option: self.options[option].0,
                concert: self.concert,
                status: *status,
                version: *version,
            },
            Fact::Policy { policy, version, .. } => {
                Fact::Policy { concert: self.concert, policy: *policy, version: *version }
            }
        };
        Entry { fact, ..entry.clone() }
    }

    fn reservation(&self, row: &Reservation) -> Reservation {
        let option = self.options[&row.option].0;
        Reservation { id: self.id(row.option, row.id), option, concert: self.concert, ..row.clone() }
    }

    fn id(&self, option: OptionId, id: ReservationId) -> ReservationId {
        ReservationId::stamp(id.0, self.options[&option].0)
    }

    /// This concert's part of what the fake ledger would load.
    fn expected(&self, concert: ConcertId, all: &Restored, fake: &Ledger, now: Time) -> Restored {
        let options = all.options.iter().filter(|option| option.concert == concert);
        let options = options.map(|row| {
            let (option, layout) = &self.options[&row.option];
            RestoredOption { option: *option, concert: self.concert, layout: layout.clone(), ..row.clone() }
        });
        let policies = all.policies.iter().filter(|policy| policy.concert == concert);
        let mine = || fake.events.iter().filter(|event| concert_of(&event.entry.fact) == concert);
        let ours = all.reservations.iter().filter(|row| row.concert == concert);
        // The fake ledger's answers do not say whose they are: they come in the order of their events.
        let recent = fake.events.iter().filter(|event| event.entry.at > now && event.entry.request.is_some());
        let answered =
            recent.zip(&all.answered).filter(|(event, _)| concert_of(&event.entry.fact) == concert);
        let answered = answered.map(|(event, answered)| match (&event.entry.fact, answered.told) {
            (Fact::Reservation(row), Told::Reservation { reservation, status, version, deadline }) => {
                let reservation = self.id(row.option, reservation);
                let told = Told::Reservation { reservation, status, version, deadline };
                engine::entry::Answered { told, ..*answered }
            }
            _ => *answered,
        });
        Restored {
            options: options.collect(),
            policies: policies.map(|row| RestoredPolicy { concert: self.concert, ..*row }).collect(),
            reservations: ours.map(|row| self.reservation(row)).collect(),
            answered: answered.collect(),
            soft_locks: Vec::new(),
            head: self.head,
            newest_event: mine().next_back().map_or(Time(0), |event| event.entry.at),
        }
    }
}

const fn concert_of(fact: &Fact) -> ConcertId {
    match fact {
        Fact::Reservation(row) => row.concert,
        Fact::Option { concert, .. } | Fact::Policy { concert, .. } => *concert,
    }
}

/// A plan with this layout; one seat where there is none.
fn plan(name: &str, layout: Option<&Layout>) -> Plan {
    let Some(layout) = layout else { return Plan::clone(&crate::world::plan(name, 1)) };
    let row = |run: &engine::plan::Run| {
        let seats = (run.first.0..run.first.0 + run.seats).map(|seat| Seat {
            label: format!("S-{seat}"),
            category: layout.categories[usize::try_from(seat).unwrap()],
            position: None,
        });
        Row { label: run.first.to_string(), seats: seats.collect() }
    };
    let ends = layout.sections.iter().skip(1).copied().chain([SeatNo(u32::MAX)]);
    let sections = layout.sections.iter().zip(ends).map(|(first, end)| {
        let runs = layout.runs.iter().filter(|run| (*first..end).contains(&run.first));
        Section { code: format!("from {first}"), rows: runs.map(row).collect() }
    });
    let categories = (0..).zip(&layout.prices);
    let plan = Plan {
        name: name.to_owned(),
        currency: "EUR".to_owned(),
        categories: categories
            .map(|(no, price): (u32, &i64)| Category { name: format!("C{no}"), price: *price })
            .collect(),
        sections: sections.collect(),
    };
    assert_eq!(&plan.layout(), layout);
    plan
}
