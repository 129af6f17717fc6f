//! A ledger in memory that fails on command. Faithful to the port: leases and fences, unique seats,
//! versions, numbers and hashes; all or nothing per batch. The real ledgers have a suite of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actors::ports::{AppendError, Batch, LeaseRow, Ledger, LedgerError, Owner, ShardAnswer};
use actors::row::EventRow;
use actors::writer::seal;
use async_trait::async_trait;
use engine::entry::{Answered, Restored, RestoredOption, RestoredPolicy, Told};
use engine::option::{OptionStatus, Policy};
use engine::plan::Layout;
use engine::reservation::Kind;
use engine::{
    ChainHead, ConcertId, Epoch, OptionId, Reservation, ReservationId, SeatNo, ShardId, Status, Time, UserId,
};
use tokio::time::Instant;

const TTL: Duration = Duration::from_secs(5);

/// What happens to one append.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing was written, and nobody says so.
    Lost,
    /// Everything was written, and nobody says so.
    AnswerLost,
    RolledBack,
    /// Takes so long, then works.
    Slow(Duration),
}

/// The database that several nodes share.
#[derive(Default)]
pub struct Tables {
    leases: BTreeMap<ShardId, Lease>,
    pub events: BTreeMap<ShardId, Vec<EventRow>>,
    pub reservations: BTreeMap<ReservationId, Reservation>,
    seats: BTreeMap<(OptionId, SeatNo), ReservationId>,
    options: BTreeMap<OptionId, (ShardId, ConcertId, OptionStatus, u32)>,
    policies: BTreeMap<ConcertId, (ShardId, RestoredPolicy)>,
    pub layouts: BTreeMap<OptionId, Arc<Layout>>,
    /// Eaten one by one by the appends.
    pub faults: VecDeque<Fault>,
    /// How long an append takes.
    pub latency: Duration,
    /// Entries of this user are refused, as if the ledger knew better.
    pub refused: Option<UserId>,
    /// Every append that was sent.
    pub sent: Vec<Batch>,
    /// Nobody reaches it.
    pub away: bool,
    /// Shards whose next renewal finds another owner.
    pub stolen: BTreeSet<ShardId>,
    /// Nodes that have no session left.
    pub dead: BTreeSet<u64>,
}

#[derive(Clone, Copy)]
struct Lease {
    epoch: Epoch,
    owner: u64,
    expires: Instant,
    is_released: bool,
}

impl Lease {
    /// Lives from now.
    fn new(epoch: Epoch, owner: u64) -> Self {
        Self { epoch, owner, expires: Instant::now() + TTL, is_released: false }
    }
}

/// How a node's leases name it.
pub fn owner(node: u64) -> Owner {
    Owner {
        id: node.into(),
        node: format!("node-{node}"),
        public_url: format!("http://node-{node}"),
        peer_url: format!("https://node-{node}:7400"),
    }
}

/// One node's connection.
pub struct TestLedger {
    tables: Arc<Mutex<Tables>>,
    owner: u64,
    /// When the world began.
    base: Instant,
}

impl TestLedger {
    pub fn new(tables: &Arc<Mutex<Tables>>, owner: u64, base: Instant) -> Arc<Self> {
        Arc::new(Self { tables: tables.clone(), owner, base })
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }

    fn time(&self, at: Instant) -> Time {
        Time(1_800_000_000_000_000 + i64::try_from((at - self.base).as_micros()).unwrap())
    }
}

pub fn lock(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tables {
    pub fn is_free(&self, shard: ShardId) -> bool {
        self.leases.get(&shard).is_none_or(|lease| lease.is_released)
    }

    /// Somebody else takes a shard now.
    pub fn steal(&mut self, shard: ShardId) {
        let lease = self.leases.get_mut(&shard).unwrap();
        *lease = Lease::new(Epoch(lease.epoch.0 + 1), u64::MAX);
    }

    /// Every lease has run out.
    pub fn run_out(&mut self) {
        for lease in self.leases.values_mut() {
            lease.expires = Instant::now();
        }
    }

    /// Every chain is whole, and every active seat has the owner that the events give it.
    pub fn audit(&self) {
        for (shard, events) in &self.events {
            let mut head = ChainHead::default();
            for row in events {
                let mut again = row.clone();
                head = seal::seal(&mut again, head);
                assert_eq!(&again, row, "shard {shard}");
            }
        }
        let mut owners = BTreeMap::new();
        for reservation in self.reservations.values().filter(|reservation| reservation.is_active()) {
            for seat in reservation.seats.iter() {
                let former = owners.insert((reservation.option, seat), reservation.id);
                assert_eq!(former, None, "seat {seat} was sold twice");
            }
        }
        assert_eq!(owners, self.seats);
    }

    pub fn fence(&self, owner: u64, shard: ShardId, epoch: Epoch) -> bool {
        let is_it = |lease: &Lease| lease.owner == owner && lease.epoch == epoch && !lease.is_released;
        self.leases.get(&shard).is_some_and(is_it)
    }

    /// A shard of that epoch and owner goes to another owner.
    fn pass(&mut self, shard: ShardId, epoch: Epoch, from: u64, to: u64) -> Option<Epoch> {
        if !self.fence(from, shard, epoch) {
            return None;
        }
        let epoch = Epoch(epoch.0 + 1);
        self.leases.insert(shard, Lease::new(epoch, to));
        Some(epoch)
    }

    fn append(&mut self, owner: u64, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        let mut answers = Vec::new();
        let mut fresh = Vec::new();
        for &(shard, epoch) in &batch.fences {
            if !self.fence(owner, shard, epoch) {
                answers.push((shard, ShardAnswer::Fenced));
                continue;
            }
            let chain = self.events.entry(shard).or_default();
            let rows: Vec<&EventRow> = batch.rows.iter().filter(|row| row.shard == shard).collect();
            let known = |row: &EventRow| chain.get(usize::try_from(row.event_seq).unwrap() - 1);
            if rows.iter().any(|row| known(row).is_some_and(|old| old.hash != row.hash)) {
                return Err(AppendError::OtherHash(format!("shard {shard}")));
            }
            let new: Vec<&EventRow> = rows.into_iter().filter(|row| known(row).is_none()).collect();
            let answer = if new.is_empty() { ShardAnswer::Duplicate } else { ShardAnswer::Applied };
            answers.push((shard, answer));
            for (row, seq) in new.iter().zip(chain.len() as u64 + 1..) {
                assert_eq!(row.event_seq, seq, "a gap in shard {shard}");
            }
            fresh.extend(new);
        }
        let before = (self.reservations.clone(), self.seats.clone(), self.options.clone());
        for row in &fresh {
            if let Err(why) = self.apply(row) {
                (self.reservations, self.seats, self.options) = before;
                return Err(AppendError::Refused(why));
            }
        }
        for row in fresh {
            self.events.entry(row.shard).or_default().push(row.clone());
        }
        Ok(answers)
    }

    fn apply(&mut self, row: &EventRow) -> Result<(), String> {
        if Some(UserId(row.user)) == self.refused && row.user != 0 {
            return Err(format!("user {}", row.user));
        }
        if row.reservation.0 == 0 && row.option == 0 {
            return self.apply_policy(row);
        }
        if row.reservation.0 == 0 {
            let status = OptionStatus::from_number(row.status).ok_or("status")?;
            let former = self.options.get(&OptionId(row.option)).map_or(0, |(.., version)| *version);
            if row.version != former + 1 {
                return Err(format!("option {}", row.option));
            }
            let option = (row.shard, ConcertId(row.concert), status, row.version);
            self.options.insert(OptionId(row.option), option);
            return Ok(());
        }
        let former = self.reservations.get(&row.reservation).map_or(0, |former| former.version);
        if row.version != former + 1 {
            return Err(format!("version of {}", row.reservation));
        }
        let reservation = reservation(row);
        for seat in reservation.seats.iter() {
            let place = (reservation.option, seat);
            if reservation.is_active() {
                let owner = self.seats.insert(place, reservation.id);
                if owner.is_some_and(|owner| owner != reservation.id) {
                    return Err(format!("seat {seat}"));
                }
            } else {
                self.seats.remove(&place);
            }
        }
        self.reservations.insert(reservation.id, reservation);
        Ok(())
    }

    fn apply_policy(&mut self, row: &EventRow) -> Result<(), String> {
        let concert = ConcertId(row.concert);
        let former = self.policies.get(&concert).map_or(0, |former| former.1.version);
        if row.version != former + 1 {
            return Err(format!("policy of {concert}"));
        }
        let version = row.version;
        let policy = Policy { reservations_per_user: row.reservations_per_user, gate: row.gate };
        self.policies.insert(concert, (row.shard, RestoredPolicy { concert, policy, version }));
        Ok(())
    }

    fn load(&self, shard: ShardId, horizon: Time) -> Restored {
        let none = Vec::new();
        let events = self.events.get(&shard).unwrap_or(&none);
        let recent: Vec<&EventRow> = events.iter().filter(|row| Time(row.at) >= horizon).collect();
        let named: BTreeSet<ReservationId> = recent.iter().map(|row| row.reservation).collect();
        let mine = |option: &OptionId| self.options.get(option).is_some_and(|(owner, ..)| *owner == shard);
        Restored {
            options: self
                .options
                .iter()
                .filter(|(option, _)| mine(option))
                .map(|(option, (_, concert, status, version))| RestoredOption {
                    option: *option,
                    concert: *concert,
                    status: *status,
                    version: *version,
                    layout: self.layouts[option].clone(),
                })
                .collect(),
            policies: {
                let mine = self.policies.values().filter(|(owner, _)| *owner == shard);
                mine.map(|(_, policy)| *policy).collect()
            },
            reservations: self
                .reservations
                .values()
                .filter(|row| mine(&row.option) && (!row.is_ended() || named.contains(&row.id)))
                .cloned()
                .collect(),
            answered: recent.iter().filter_map(|row| answered(row)).collect(),
            soft_locks: Vec::new(),
            head: events
                .last()
                .map_or(ChainHead::default(), |row| ChainHead { event_seq: row.event_seq, hash: row.hash }),
            newest_event: events.last().map_or(Time::default(), |row| Time(row.at)),
        }
    }
}

fn reservation(row: &EventRow) -> Reservation {
    Reservation {
        id: row.reservation,
        kind: Kind::from_number(row.kind).unwrap(),
        user: UserId(row.user),
        concert: ConcertId(row.concert),
        option: OptionId(row.option),
        seats: row.seats,
        status: Status::from_number(row.status).unwrap(),
        version: row.version,
        amount: row.amount,
        deadline: Time(row.deadline),
        created_at: Time(row.created_at),
        changed_at: Time(row.at),
        payment_started: row.payment_started,
    }
}

fn answered(row: &EventRow) -> Option<Answered> {
    let told = if row.reservation.0 == 0 {
        Told::Done
    } else {
        Told::Reservation {
            reservation: row.reservation,
            status: Status::from_number(row.status).unwrap(),
            version: row.version,
            deadline: Time(row.deadline),
        }
    };
    Some(Answered { at: Time(row.at), caller: UserId(row.caller), request: row.request?, told })
}

#[async_trait]
impl Ledger for TestLedger {
    fn me(&self) -> Owner {
        owner(self.owner)
    }

    async fn now(&self) -> Result<Time, LedgerError> {
        Ok(self.time(Instant::now()))
    }

    async fn acquire(&self, shard: ShardId) -> Result<Option<Epoch>, LedgerError> {
        let mut tables = self.tables();
        let now = Instant::now();
        let former = tables.leases.get(&shard).copied();
        if former.is_some_and(|lease| !lease.is_released && lease.expires > now) {
            return Ok(None);
        }
        let epoch = Epoch(former.map_or(1, |lease| lease.epoch.0 + 1));
        tables.leases.insert(shard, Lease::new(epoch, self.owner));
        Ok(Some(epoch))
    }

    async fn acquire_again(&self, shard: ShardId, mine: Epoch) -> Result<Option<Epoch>, LedgerError> {
        Ok(self.tables().pass(shard, mine, self.owner, self.owner))
    }

    async fn renew(&self, held: &[(ShardId, Epoch)]) -> Result<Vec<ShardId>, LedgerError> {
        let mut tables = self.tables();
        if tables.away {
            return Err(LedgerError::Unavailable("down".into()));
        }
        let mut still = Vec::new();
        for &(shard, epoch) in held {
            if tables.stolen.remove(&shard) {
                tables.steal(shard);
            } else if tables.fence(self.owner, shard, epoch) {
                tables.leases.insert(shard, Lease::new(epoch, self.owner));
                still.push(shard);
            }
        }
        Ok(still)
    }

    async fn release(&self, held: &[(ShardId, Epoch)]) -> Result<(), LedgerError> {
        let mut tables = self.tables();
        for &(shard, epoch) in held {
            if tables.fence(self.owner, shard, epoch) {
                let released = Lease { is_released: true, ..Lease::new(epoch, self.owner) };
                tables.leases.insert(shard, released);
            }
        }
        Ok(())
    }

    async fn leases(&self) -> Result<(Time, Vec<LeaseRow>), LedgerError> {
        let tables = self.tables();
        if tables.away {
            return Err(LedgerError::Unavailable("down".into()));
        }
        let row = |(shard, lease): (&ShardId, &Lease)| LeaseRow {
            shard: *shard,
            epoch: lease.epoch,
            owner: owner(lease.owner),
            expires_at: self.time(lease.expires),
            is_released: lease.is_released,
        };
        Ok((self.time(Instant::now()), tables.leases.iter().map(row).collect()))
    }

    async fn hand_over(&self, shard: ShardId, mine: Epoch, to: &Owner) -> Result<Option<Epoch>, LedgerError> {
        let mut tables = self.tables();
        if tables.away {
            return Err(LedgerError::Unavailable("down".into()));
        }
        Ok(tables.pass(shard, mine, self.owner, u64::try_from(to.id).unwrap()))
    }

    async fn accepted(&self, shard: ShardId, epoch: Epoch) -> Result<bool, LedgerError> {
        Ok(!self.renew(&[(shard, epoch)]).await?.is_empty())
    }

    async fn take_from_dead(
        &self,
        shard: ShardId,
        epoch: Epoch,
        owner: u128,
    ) -> Result<Option<Epoch>, LedgerError> {
        let mut tables = self.tables();
        let owner = u64::try_from(owner).unwrap();
        if tables.away {
            return Err(LedgerError::Unavailable("down".into()));
        }
        if !tables.dead.contains(&owner) {
            return Ok(None);
        }
        Ok(tables.pass(shard, epoch, owner, self.owner))
    }

    async fn append(&self, batch: &Batch) -> Result<Vec<(ShardId, ShardAnswer)>, AppendError> {
        let (fault, latency) = {
            let mut tables = self.tables();
            if tables.away {
                return Err(AppendError::Unknown { reason: "down".into(), rolled_back: false });
            }
            tables.sent.push(batch.clone());
            (tables.faults.pop_front(), tables.latency)
        };
        let slow = if let Some(Fault::Slow(slow)) = fault { slow } else { latency };
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let lost = |rolled_back| AppendError::Unknown { reason: "gone".into(), rolled_back };
        match fault {
            Some(Fault::Lost) => Err(lost(false)),
            Some(Fault::RolledBack) => Err(lost(true)),
            Some(Fault::AnswerLost) => {
                self.tables().append(self.owner, batch)?;
                Err(lost(false))
            }
            Some(Fault::Slow(_)) | None => self.tables().append(self.owner, batch),
        }
    }

    async fn load(&self, shard: ShardId, horizon: Time) -> Result<Restored, LedgerError> {
        let tables = self.tables();
        if tables.away {
            return Err(LedgerError::Unavailable("down".into()));
        }
        Ok(tables.load(shard, horizon))
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, LedgerError> {
        Ok(self.tables().reservations.get(&id).cloned())
    }

    async fn reservations_of(
        &self,
        user: UserId,
        before: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, LedgerError> {
        let tables = self.tables();
        let rows = tables.reservations.values().rev();
        Ok(rows
            .filter(|row| row.user == user && before.is_none_or(|before| row.id < before))
            .take(usize::try_from(limit).unwrap())
            .cloned()
            .collect())
    }

    async fn heads(&self) -> Result<Vec<(ShardId, ChainHead)>, LedgerError> {
        let tables = self.tables();
        let last = tables.events.iter().filter_map(|(shard, rows)| Some((*shard, rows.last()?)));
        Ok(last.map(|(shard, row)| (shard, ChainHead { event_seq: row.event_seq, hash: row.hash })).collect())
    }
}
