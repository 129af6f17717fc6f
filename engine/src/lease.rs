//! The rules of leases: what a node owns and until when it may say so, when it may take what somebody else
//! had, and when a dead node's shards need not wait for their leases to run out.
//!
//! A lease row in the ledger names the owner of a shard; whoever comes after it waits until the row has
//! expired *by the ledger's clock*. The owner must stop deciding clicks before that, and it has only its
//! own clock and an answer that took its time. So it counts from the instant **before it sent** the
//! renewal, which is before the ledger can have counted anything, and stops a margin early. The margin pays
//! for two clocks that do not run equally fast: with ttl 5 s and margin 1 s the owner's may be slower than
//! the ledger's by a fifth, ten thousand times what quartz does.
//!
//! **What that promises, and what not.** A command that passes [`allows`] at some true instant passes it at
//! an instant at which no other node can have acquired the shard, as long as clocks drift less than the
//! margin allows. It does not promise that the command's *effects* come before another owner's: the process
//! may stand still between the check and the effect for as long as it likes. What leaves memory is
//! therefore fenced where it arrives, in the ledger and in the mirror; only a click's answer and the feed
//! are not, and a viewer's frames carry the epoch. Sales are safe under any clock and any pause.
//!
//! Instants are [`Moment`]s of this node. The shell keeps each deadline in an atomic beside the actor and
//! asks [`allows`] for every command and Tick; [`Leases`] says what to store there.

use std::collections::BTreeMap;

use crate::ids::{Epoch, ShardId};
use crate::time::{Moment, Span};

pub use evidence::{Evidence, Knock, LedgerSessions, PeerSession};
pub use heartbeats::Heartbeats;
pub use reach::Report;
pub use timeline::Timeline;

mod evidence;
mod heartbeats;
mod reach;
mod timeline;

/// A deadline that is past for ever: the shard is lost, or raised to another epoch.
pub const LOST: Moment = Moment(0);

/// For how long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What the ledger adds to its clock at an acquire or a renewal.
    pub ttl: Span,
    /// How often leases are renewed.
    pub renew: Span,
    /// By how much the owner stops early.
    pub margin: Span,
}

impl Default for Terms {
    fn default() -> Self {
        Self { ttl: Span::from_secs(5), renew: Span::from_millis(1_500), margin: Span::from_secs(1) }
    }
}

impl Terms {
    /// Until when a lease lasts that was granted or renewed by a statement sent at `sent`.
    #[must_use]
    pub const fn deadline(&self, sent: Moment) -> Moment {
        let lasts = self.ttl.0.saturating_sub(self.margin.0);
        Moment(sent.0.saturating_add_signed(if lasts > 0 { lasts } else { 0 }))
    }
}

/// Whether a shard may decide at `now`. Holds are decided under a lease that goes on without the ledger,
/// too: they wait for it, and its fence has the last word.
#[must_use]
pub const fn allows(deadline: Moment, now: Moment) -> bool {
    now.0 < deadline.0
}

/// The leases a node believes it has.
#[derive(Clone, Debug)]
pub struct Leases {
    terms: Terms,
    held: BTreeMap<ShardId, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    epoch: Epoch,
    /// By the last renewal.
    deadline: Moment,
    /// While the ledger is away for everybody; else no later than the deadline.
    goes_on: Moment,
}

impl Held {
    fn until(&self) -> Moment {
        self.deadline.max(self.goes_on)
    }
}

/// What the answer to a renewal means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Still this node's, with the deadline that holds from now on.
    pub kept: Vec<(ShardId, Epoch, Moment)>,
    /// Stop these at once.
    pub lost: Vec<(ShardId, Epoch)>,
}

impl Leases {
    #[must_use]
    pub const fn new(terms: Terms) -> Self {
        Self { terms, held: BTreeMap::new() }
    }

    /// The ledger gave the shard to this node, asked at `sent`. The deadline; an older epoch's lease of the
    /// same shard has ended.
    pub fn granted(&mut self, shard: ShardId, epoch: Epoch, sent: Moment) -> Moment {
        let deadline = self.terms.deadline(sent);
        self.held.insert(shard, Held { epoch, deadline, goes_on: LOST });
        deadline
    }

    /// The shard is not this node's any more; `false` if it was not, or in another epoch.
    pub fn forget(&mut self, shard: ShardId, epoch: Epoch) -> bool {
        let known = self.epoch(shard) == Some(epoch);
        if known {
            self.held.remove(&shard);
        }
        known
    }

    /// The answer to a renewal of `asked`, sent at `sent`: the rows of `still` match, the others do not,
    /// which loses them, unless their epoch was raised by this node meanwhile. A row that was skipped
    /// because it is locked belongs into neither: ask for it again, alone.
    pub fn renewed(&mut self, sent: Moment, asked: &[(ShardId, Epoch)], still: &[ShardId]) -> Renewed {
        let deadline = self.terms.deadline(sent);
        let mut renewed = Renewed::default();
        for &(shard, epoch) in asked {
            let Some(held) = self.held.get_mut(&shard).filter(|held| held.epoch == epoch) else { continue };
            if still.contains(&shard) {
                // An answer that comes late does not take back what a later one gave.
                held.deadline = held.deadline.max(deadline);
                renewed.kept.push((shard, epoch, held.until()));
            } else {
                self.held.remove(&shard);
                renewed.lost.push((shard, epoch));
            }
        }
        renewed
    }

    /// This is what the nodes say about the ledger now, this one first: clicks go on accordingly, in every lease
    /// that has not run out yet. The deadlines that hold from now on, of every lease.
    ///
    /// Only an unbroken chain of reports carries a lease past its deadline. Once it has run out, nothing
    /// but a renewal brings it back: in the gap a node that reached the ledger may have taken the shard,
    /// and be cut off from it since like everybody else. A node without peers has nobody to fear.
    ///
    /// What was said stays good for its renew interval, whatever its node says next: one that reaches the ledger again
    /// takes nothing by expiry for a whole ttl. So when the ledger comes back the others have the rest of the interval
    /// for renewals of their own, and turn no click away meanwhile. This node's own renewal ends the exception at once.
    pub fn go_on(&mut self, now: Moment, reports: &[Report]) -> Vec<(ShardId, Epoch, Moment)> {
        let until = reach::clicks_until(reports, self.terms.renew);
        let is_alone = reports.len() == 1;
        let is_away = matches!(reports.first(), Some(Report::Away(_)));
        for held in self.held.values_mut() {
            let unbroken = allows(held.until(), now) || is_alone;
            held.goes_on = match until {
                Some(until) if unbroken => held.goes_on.max(until),
                None if unbroken && is_away => held.goes_on,
                Some(_) | None => LOST,
            };
        }
        self.held.iter().map(|(shard, held)| (*shard, held.epoch, held.until())).collect()
    }

    /// Everything this node believes it owns: what to ask for in the next renewal.
    #[must_use]
    pub fn held(&self) -> Vec<(ShardId, Epoch)> {
        self.held.iter().map(|(shard, held)| (*shard, held.epoch)).collect()
    }

    /// In which epoch this node believes to own the shard.
    fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        self.held.get(&shard).map(|held| held.epoch)
    }

    /// The deadline of this epoch of the shard; [`LOST`] when this node does not have it.
    #[must_use]
    pub fn deadline(&self, shard: ShardId, epoch: Epoch) -> Moment {
        self.held.get(&shard).filter(|held| held.epoch == epoch).map_or(LOST, Held::until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);
    const START: Moment = Moment(7_000_000);

    fn after(millis: i64) -> Moment {
        START + Span::from_millis(millis)
    }

    #[test]
    fn a_lease_ends_a_margin_before_its_time_counted_from_the_sending() {
        let mut leases = Leases::new(Terms::default());
        let deadline = leases.granted(A, Epoch(1), START);
        assert_eq!(deadline, after(4_000));
        assert!(allows(deadline, after(3_999)) && !allows(deadline, after(4_000)));
        let kept = |millis| Renewed { kept: vec![(A, Epoch(1), after(millis))], lost: vec![] };
        assert_eq!(leases.renewed(after(1_500), &[(A, Epoch(1))], &[A]), kept(5_500));
        // An answer that comes late does not take back what a later one gave.
        assert_eq!(leases.renewed(after(500), &[(A, Epoch(1))], &[A]), kept(5_500));
        assert_eq!(leases.deadline(A, Epoch(1)), after(5_500));
        assert_eq!(leases.deadline(A, Epoch(2)), LOST);
    }

    #[test]
    fn what_is_not_renewed_is_lost_unless_it_was_taken_again() {
        let mut leases = Leases::new(Terms::default());
        leases.granted(A, Epoch(1), START);
        leases.granted(B, Epoch(1), START);
        let asked = leases.held();
        assert_eq!(asked, [(A, Epoch(1)), (B, Epoch(1))]);
        leases.granted(B, Epoch(2), START);
        assert_eq!(leases.deadline(B, Epoch(1)), LOST, "the dead actor's lease ends with its epoch");
        let lost = Renewed { kept: vec![], lost: vec![(A, Epoch(1))] };
        assert_eq!(leases.renewed(START, &asked, &[]), lost);
        assert_eq!(leases.held(), [(B, Epoch(2))]);
        assert!(!leases.forget(B, Epoch(1)));
        assert!(leases.forget(B, Epoch(2)) && leases.held().is_empty());
    }

    #[test]
    fn while_the_ledger_is_away_a_lease_goes_on_until_the_chain_of_reports_breaks() {
        let mut leases = Leases::new(Terms::default());
        leases.granted(A, Epoch(1), START);
        let told = |leases: &mut Leases, millis, mine: Report, peers: Report| {
            leases.go_on(after(millis), &[mine, peers])
        };
        let away = |millis| Report::Away(after(millis));
        let until = |millis| vec![(A, Epoch(1), after(millis))];
        assert_eq!(told(&mut leases, 2_000, away(2_000), away(2_000)), until(4_000), "the lease itself");
        assert_eq!(told(&mut leases, 3_500, away(3_500), away(3_400)), until(4_900));
        assert_eq!(told(&mut leases, 4_800, away(4_800), away(4_700)), until(6_200), "past the deadline");
        assert_eq!(leases.deadline(A, Epoch(1)), after(6_200));
        assert_eq!(
            told(&mut leases, 6_000, away(6_000), Report::Reaches),
            until(6_200),
            "a peer reaches it again"
        );
        assert_eq!(told(&mut leases, 6_201, away(6_201), away(6_201)), until(4_000), "too late");
        let kept = Renewed { kept: vec![(A, Epoch(1), after(10_000))], lost: vec![] };
        assert_eq!(leases.renewed(after(6_000), &leases.held(), &[A]), kept);
        assert_eq!(told(&mut leases, 9_900, away(9_900), away(9_900)), until(11_400));
        assert_eq!(told(&mut leases, 12_000, away(12_000), away(12_000)), until(10_000), "broken by silence");
    }

    #[test]
    fn alone_a_lease_goes_on_after_a_gap_unless_it_is_lost() {
        let mut leases = Leases::new(Terms::default());
        leases.granted(A, Epoch(1), START);
        let away = |millis| [Report::Away(after(millis))];
        assert_eq!(leases.go_on(after(9_000), &away(9_000)), [(A, Epoch(1), after(10_500))]);
        assert_eq!(leases.go_on(after(9_500), &[Report::Reaches]), [(A, Epoch(1), after(4_000))]);
        assert_eq!(leases.renewed(after(9_500), &leases.held(), &[]).lost, [(A, Epoch(1))]);
        assert_eq!((leases.go_on(after(9_600), &away(9_600)), leases.deadline(A, Epoch(1))), (vec![], LOST));
    }

    #[test]
    fn a_margin_longer_than_the_lease_allows_nothing() {
        let terms = Terms { margin: Span::from_secs(9), ..Terms::default() };
        assert!(!allows(terms.deadline(START), START));
    }
}
