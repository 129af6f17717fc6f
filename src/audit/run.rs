//! An audit from beginning to end.

use std::collections::{BTreeMap, BTreeSet};

use actors::ports::LedgerError;
use engine::ShardId;

use super::derive::Derivation;
use super::memory::ShardMemory;
use super::report::{Finding, Report};
use super::{Events, Snapshot};

/// Rows read at a time.
const PAGE: u32 = 4_096;

/// How far an audit is, in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Derives every shard from its events and compares: with the ledger's rows as they are in the same
/// snapshot, and with `memory` at the event that each memory has seen. `progress` is called after each
/// page.
///
/// # Errors
/// The ledger cannot be read. A difference is no error: it stands in the report.
pub async fn run(
    events: &dyn Events,
    memory: &[ShardMemory],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, LedgerError> {
    let mut snapshot = events.snapshot().await?;
    let heads = snapshot.heads().await?;
    let total =
        heads.iter().map(|(_, head)| head.event_seq).sum::<u64>() + snapshot.reservation_count().await?;
    let mut audit = Audit {
        snapshot: &mut *snapshot,
        report: Report { heads, memories: memory.len(), ..Report::default() },
        progress,
        at: Progress { done: 0, total },
    };
    let memory: BTreeMap<ShardId, &ShardMemory> = memory.iter().map(|one| (one.shard, one)).collect();
    let shards: BTreeSet<ShardId> =
        audit.report.heads.iter().map(|(shard, _)| *shard).chain(memory.keys().copied()).collect();
    let mut derivations = BTreeMap::new();
    for shard in shards {
        derivations.insert(shard, audit.derive(shard, memory.get(&shard).copied()).await?);
    }
    audit.compare_rows(derivations).await?;
    // Where events are missing, fewer rows came than the heads promised.
    (audit.progress)(Progress { done: total, total });
    Ok(audit.report)
}

struct Audit<'a> {
    snapshot: &'a mut dyn Snapshot,
    report: Report,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    at: Progress,
}

impl Audit<'_> {
    async fn derive(
        &mut self,
        shard: ShardId,
        mut memory: Option<&ShardMemory>,
    ) -> Result<Derivation, LedgerError> {
        let mut derivation = Derivation::new(shard);
        loop {
            let page = self.snapshot.events(shard, derivation.head.event_seq, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                if let Some(seen) = memory.take_if(|memory| row.event_seq > memory.head.event_seq) {
                    derivation.compare_memory(seen, &mut self.report);
                }
                derivation.push(row, &mut self.report);
            }
            self.report.events += page.len() as u64;
            self.advance(page.len());
        }
        if let Some(memory) = memory {
            derivation.compare_memory(memory, &mut self.report);
        }
        self.report.seats_taken += derivation.owners.len() as u64;
        Ok(derivation)
    }

    async fn compare_rows(
        &mut self,
        mut derivations: BTreeMap<ShardId, Derivation>,
    ) -> Result<(), LedgerError> {
        let mut after = None;
        loop {
            let page = self.snapshot.reservations(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.reservation.id);
            for stored in &page {
                let derivation =
                    derivations.entry(stored.shard).or_insert_with(|| Derivation::new(stored.shard));
                derivation.compare_reservation(stored, &mut self.report);
            }
            self.report.reservations += page.len() as u64;
            self.advance(page.len());
        }
        let options = self.snapshot.options().await?;
        let policies = self.snapshot.policies().await?;
        for shard in options.iter().map(|row| row.shard).chain(policies.iter().map(|row| row.shard)) {
            derivations.entry(shard).or_insert_with(|| Derivation::new(shard));
        }
        let mut homes = BTreeMap::new();
        for derivation in derivations.values_mut() {
            derivation.report_missing(&mut self.report);
            derivation.compare_options(&options, &mut self.report);
            derivation.compare_policies(&policies, &mut self.report);
            for option in derivation.options.keys() {
                if let Some(first) = homes.insert(*option, derivation.shard) {
                    let shard = derivation.shard;
                    let what = format!("option {option} was added by shard {first} as well");
                    self.report.found(Finding::Event { shard, event_seq: derivation.head.event_seq, what });
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, rows: usize) {
        self.at.done += rows as u64;
        (self.progress)(self.at);
    }
}
