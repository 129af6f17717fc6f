//! Who is there, as far as this node knows: pure bookkeeping, time is an argument. It decides nothing about shards;
//! only the ledger says who owns one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::link::End;
use super::wire::{Beat, Hello};

/// Beats in a row that went unanswered, with no other sign of life between, before a member counts as silent.
pub const MISSES: u8 = 3;

/// How long a session that ended may be replaced before its member counts as gone: the loser of two that were opened
/// at the same time ends just so.
pub const GRACE: Duration = Duration::from_millis(300);

/// How long a member that is gone, and at no configured address, is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub me: Me,
    /// By node name; a node that was started again is one member.
    pub peers: Vec<Member>,
    /// Configured addresses at which no node has been met yet.
    pub unmet: Vec<Unmet>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    pub node: String,
    pub id: u128,
    pub public_url: String,
    pub peer_url: String,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub node: String,
    /// The owner in leases: another one after each start.
    pub id: u128,
    pub public_url: String,
    pub peer_url: String,
    /// Where to knock, see [`Hello`].
    pub public_door: String,
    pub ops_door: String,
    /// The version of its program.
    pub build: String,
    pub state: State,
    pub draining: bool,
    pub ledger: Reach,
    /// The shards it serves with their epochs, ascending.
    pub shards: Vec<(u16, u64)>,
    /// When it was asked what it answered last: what `ledger` is worth.
    pub seen: Instant,
}

/// Whether a member can be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// It does not answer, which proves nothing: it may be paused, or the network broken.
    Silent,
    /// Its machine ended the session.
    Gone(Gone),
    /// One of the two wants nothing to do with the other; a sentence that says what to do.
    Refused(String),
}

/// How it is known that a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// FIN.
    Closed,
    /// RST.
    Reset,
    /// It said that it had given back what it owned.
    Left,
}

/// What a node last said about the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Reaches,
    Away { since: Instant },
}

/// An address at which there should be a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub address: String,
    /// What came of the last attempt.
    pub why: String,
}

/// How this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it gives its shards away and takes none.
    pub draining: bool,
    pub ledger: Reach,
    /// The shards it serves with their epochs, ascending.
    pub shards: Vec<(u16, u64)>,
}

impl Status {
    /// As it is told at `now`.
    pub(super) fn beat(&self, version: u64, now: Instant) -> Beat {
        let ledger_away = match self.ledger {
            Reach::Reaches => None,
            Reach::Away { since } => {
                let millis = now.saturating_duration_since(since).as_millis();
                Some(u64::try_from(millis).unwrap_or(u64::MAX))
            }
        };
        Beat { version, draining: self.draining, ledger_away, shards: self.shards.clone() }
    }

    /// Whether peers must hear of it before the next beat.
    pub(super) fn is_news(&self, before: &Self) -> bool {
        let is_away = |status: &Self| status.ledger != Reach::Reaches;
        (self.draining, is_away(self), &self.shards) != (before.draining, is_away(before), &before.shards)
    }
}

/// The books.
#[derive(Debug)]
pub struct Book {
    me: Hello,
    entries: BTreeMap<u128, Entry>,
    /// Who has said hello and has not been heard to welcome this node yet.
    greeted: BTreeSet<u128>,
    /// By configured address.
    addresses: BTreeMap<String, Met>,
}

#[derive(Debug)]
enum Met {
    Nobody(String),
    Node(u128),
}

#[derive(Debug)]
struct Entry {
    member: Member,
    version: u64,
    /// The session it is talked to over.
    link: Option<u64>,
    misses: u8,
    /// How and when the last session ended, while nothing has followed from it yet.
    ended: Option<(End, Instant)>,
    /// Since when it is not up.
    down_since: Instant,
}

impl Book {
    pub fn new(me: Hello) -> Self {
        Self { me, entries: BTreeMap::new(), greeted: BTreeSet::new(), addresses: BTreeMap::new() }
    }

    pub fn me(&self) -> &Hello {
        &self.me
    }

    /// Whether to work together with a node.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn judge(&self, hello: &Hello) -> Result<(), String> {
        let Hello { node, peer_url, build, .. } = hello;
        let me = &self.me;
        if hello.cluster_id != me.cluster_id {
            return Err(format!(
                "the node {node} at {peer_url} belongs to another cluster (its ledger is another one): give it the \
                 ledger.url of this cluster, or take it out of cluster.peers"
            ));
        }
        let (mine, theirs) = ((me.protocol_min, me.protocol_max), (hello.protocol_min, hello.protocol_max));
        if theirs.0 > mine.1 || theirs.1 < mine.0 {
            let (older, newer) = if theirs.0 > mine.1 {
                ((&me.node, &me.build, mine.1), (node, build, theirs.0))
            } else {
                ((node, build, theirs.1), (&me.node, &me.build, mine.0))
            };
            return Err(format!(
                "the node {} (version {}) speaks protocol {} at least, the node {} (version {}) {} at most: upgrade \
                 {}, one version at a time",
                newer.0, newer.1, newer.2, older.0, older.1, older.2, older.0
            ));
        }
        let twin = (*node == me.node && hello.id != me.id).then_some(&me.peer_url);
        let mut others =
            self.entries.values().filter(|entry| entry.link.is_some() && entry.member.id != hello.id);
        let twin = twin
            .or_else(|| others.find(|other| other.member.node == *node).map(|other| &other.member.peer_url));
        match twin {
            Some(first) => Err(format!(
                "two nodes are called {node}, one at {first} and one at {peer_url}: give one of them another \
                 node.name and start it again"
            )),
            None => Ok(()),
        }
    }

    /// A node has said hello, and was welcomed.
    pub fn greeted(&mut self, id: u128) {
        self.greeted.insert(id);
    }

    /// Whether it is somebody that this node works with: it may ask before this node has heard its own welcome.
    pub fn knows(&self, id: u128) -> bool {
        self.greeted.contains(&id)
            || self.entries.get(&id).is_some_and(|entry| entry.member.state == State::Up)
    }

    /// A node and this one agree to work together, over this session; `now` it was asked.
    pub fn welcome(&mut self, link: u64, hello: &Hello, beat: &Beat, now: Instant) {
        // An older process of that name is not there any more.
        self.entries.retain(|id, entry| *id == hello.id || entry.member.node != hello.node);
        self.greeted.remove(&hello.id);
        let entry = self.entry(hello, now);
        (entry.link, entry.misses, entry.ended) = (Some(link), 0, None);
        entry.member.state = State::Up;
        entry.told(beat, Some(now), now);
    }

    /// A node that is not worked with. Whether that is news.
    pub fn refuse(&mut self, hello: &Hello, why: &str, now: Instant) -> bool {
        self.greeted.remove(&hello.id);
        let entry = self.entry(hello, now);
        let refused = State::Refused(why.to_owned());
        let is_news = entry.member.state != refused;
        (entry.member.state, entry.link, entry.ended, entry.down_since) = (refused, None, None, now);
        is_news
    }

    fn entry(&mut self, hello: &Hello, now: Instant) -> &mut Entry {
        let entry = self.entries.entry(hello.id).or_insert_with(|| Entry::new(hello, now));
        let Hello { public_url, peer_url, public_door, ops_door, build, .. } = hello.clone();
        let member = &mut entry.member;
        (member.public_url, member.peer_url, member.build) = (public_url, peer_url, build);
        (member.public_door, member.ops_door) = (public_door, ops_door);
        entry
    }

    /// A member has said how it is: asked at that instant, or by itself. Whether the ledger has come out of its reach.
    pub fn heard(&mut self, id: u128, beat: &Beat, asked: Option<Instant>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.member.state == State::Up) else {
            return false;
        };
        entry.misses = 0;
        let before = entry.member.ledger;
        entry.told(beat, asked, now);
        before == Reach::Reaches && entry.member.ledger != Reach::Reaches
    }

    /// A beat over this session went unanswered. Whether its member counts as silent now.
    pub fn missed(&mut self, link: u64, now: Instant) -> bool {
        let Some(entry) = self.over(link) else { return false };
        entry.misses += 1;
        let is_silent = entry.misses >= MISSES;
        if is_silent {
            (entry.member.state, entry.link, entry.down_since) = (State::Silent, None, now);
        }
        is_silent
    }

    /// The session with that node has ended. What follows from it, [`Self::settle`] says.
    pub fn ended(&mut self, link: u64, id: u128, end: End, now: Instant) {
        self.greeted.remove(&id);
        if let Some(entry) = self.over(link) {
            (entry.link, entry.ended) = (None, Some((end, now)));
        }
    }

    fn over(&mut self, link: u64) -> Option<&mut Entry> {
        self.entries.values_mut().find(|entry| entry.link == Some(link))
    }

    /// The member has said that it ends.
    pub fn left(&mut self, id: u128, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.member.state, entry.link, entry.ended) = (State::Gone(Gone::Left), None, None);
            entry.down_since = now;
        }
    }

    /// Draws the conclusions that are due, and forgets what is of no use any more.
    pub fn settle(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            let Some((end, _)) = entry.ended.take_if(|(_, at)| now >= *at + GRACE) else { continue };
            entry.down_since = now;
            entry.member.state = match end {
                End::Closed => State::Gone(Gone::Closed),
                End::Reset => State::Gone(Gone::Reset),
                End::Lost | End::Ours => State::Silent,
            };
        }
        let configured =
            |id| self.addresses.values().any(|met| matches!(met, Met::Node(node) if *node == id));
        self.entries.retain(|id, entry| {
            entry.member.state == State::Up || configured(*id) || now < entry.down_since + REMEMBERED
        });
    }

    /// There should be a node at this address.
    pub fn look_for(&mut self, address: &str) {
        let nobody = || Met::Nobody("not tried yet".to_owned());
        self.addresses.entry(address.to_owned()).or_insert_with(nobody);
    }

    /// The address is not configured any more.
    pub fn stop_looking(&mut self, address: &str) {
        self.addresses.remove(address);
    }

    /// Who was met there.
    pub fn met(&mut self, address: &str, id: u128) {
        if let Some(met) = self.addresses.get_mut(address) {
            *met = Met::Node(id);
        }
    }

    /// Nobody was met there. Whether that is news.
    pub fn not_met(&mut self, address: &str, why: &str) -> bool {
        match self.addresses.get_mut(address) {
            Some(Met::Nobody(before)) if before != why => {
                why.clone_into(before);
                true
            }
            // Whoever was there before is a member, whose state says more.
            Some(Met::Nobody(_) | Met::Node(_)) | None => false,
        }
    }

    pub fn members(&self) -> Members {
        let Hello { node, id, public_url, peer_url, .. } = self.me.clone();
        let mut peers: Vec<Member> = self.entries.values().map(|entry| entry.member.clone()).collect();
        peers.sort_by(|a, b| (&a.node, a.id).cmp(&(&b.node, b.id)));
        let unmet = self.addresses.iter().filter_map(|(address, met)| match met {
            Met::Nobody(why) => Some(Unmet { address: address.clone(), why: why.clone() }),
            Met::Node(_) => None,
        });
        Members { me: Me { node, id, public_url, peer_url }, peers, unmet: unmet.collect() }
    }
}

impl Entry {
    fn new(hello: &Hello, now: Instant) -> Self {
        let Hello { node, id, public_url, peer_url, public_door, ops_door, build, .. } = hello.clone();
        let member = Member {
            node,
            id,
            public_url,
            peer_url,
            public_door,
            ops_door,
            build,
            state: State::Silent,
            draining: false,
            ledger: Reach::Reaches,
            shards: Vec::new(),
            seen: now,
        };
        Self { member, version: 0, link: None, misses: 0, ended: None, down_since: now }
    }

    fn told(&mut self, beat: &Beat, asked: Option<Instant>, now: Instant) {
        // An answer that was on its way when the news was sent is older than the news.
        if beat.version < self.version {
            return;
        }
        self.version = beat.version;
        let member = &mut self.member;
        // What came by itself may have been on its way for long.
        if let Some(asked) = asked {
            member.seen = member.seen.max(asked);
        }
        member.draining = beat.draining;
        member.shards.clone_from(&beat.shards);
        member.ledger = match beat.ledger_away {
            None => Reach::Reaches,
            Some(millis) => {
                Reach::Away { since: now.checked_sub(Duration::from_millis(millis)).unwrap_or(now) }
            }
        };
    }
}

#[cfg(test)]
mod tests;
