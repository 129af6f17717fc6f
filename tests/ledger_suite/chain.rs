//! Sealed events of one shard, as the writer makes them.

use std::sync::Arc;

use actors::ports::{AppendError, Batch, ShardAnswer};
use actors::row::EventRow;
use actors::writer::seal::seal;
use engine::entry::RequestMark;
use engine::option::{OptionStatus, Policy};
use engine::reservation::Kind;
use engine::{
    ChainHead, ConcertId, Entry, EntryNo, Epoch, Fact, OptionId, RequestKey, Reservation, ReservationId,
    SeatNo, ShardId, Status, Time, UserId,
};
use hotseat::catalogue::Imported;

use crate::world::{Store, T0};

/// A shard's chain as its owner sees it.
#[derive(Clone, Debug)]
pub struct Chain {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub head: ChainHead,
}

impl Chain {
    pub fn new(shard: ShardId, epoch: Epoch) -> Self {
        Self { shard, epoch, head: ChainHead::default() }
    }

    /// Seals the next event.
    pub fn seal(&mut self, at: i64, caller: u64, request: Option<RequestMark>, fact: Fact) -> EventRow {
        let entry = Entry {
            no: EntryNo(self.head.event_seq + 1),
            at: Time(at),
            caller: UserId(caller),
            request,
            fact,
        };
        let mut row = EventRow::unsealed(self.shard, self.epoch, &entry);
        self.head = seal(&mut row, self.head);
        row
    }

    /// The reservation as its newest event leaves it, asked for by its user with a key of its own.
    pub fn reservation(&mut self, row: &Reservation) -> EventRow {
        let key = RequestKey(row.id.0 ^ u128::from(row.version) << 100);
        let request = RequestMark { key, content: u64::MAX - u64::from(row.version) };
        self.seal(row.changed_at.0, row.user.0, Some(request), Fact::Reservation(row.clone()))
    }

    pub fn option(&mut self, imported: &Imported, status: OptionStatus, version: u32, at: i64) -> EventRow {
        let (option, concert) = (imported.option.option, imported.concert.concert);
        self.seal(at, 0, None, Fact::Option { option, concert, status, version })
    }

    pub fn policy(&mut self, concert: ConcertId, policy: Policy, version: u32, at: i64) -> EventRow {
        let request = RequestMark { key: RequestKey(u128::from(version)), content: 5 };
        self.seal(at, 900, Some(request), Fact::Policy { concert, policy, version })
    }

    pub fn batch(&self, rows: Vec<EventRow>) -> Batch {
        Batch { fences: vec![(self.shard, self.epoch)], rows }
    }

    /// Writes the rows and insists.
    pub async fn applied(&self, store: &Arc<dyn Store>, rows: Vec<EventRow>) {
        let answers = store.append(&self.batch(rows)).await.unwrap();
        assert_eq!(answers, [(self.shard, ShardAnswer::Applied)]);
    }

    /// Writes the rows, insists that they are refused, and goes back to where the chain was.
    pub async fn refused(&mut self, store: &Arc<dyn Store>, before: ChainHead, rows: Vec<EventRow>) {
        let answer = store.append(&self.batch(rows)).await;
        assert!(matches!(answer, Err(AppendError::Refused(_))), "{answer:?}");
        self.head = before;
    }
}

/// A fresh hold; `n` makes its id, `seats` its seats, `T0 + n` its time.
pub fn hold(imported: &Imported, n: u32, user: u64, seats: &[u32]) -> Reservation {
    let option = imported.option.option;
    let at = Time(T0 + i64::from(n));
    Reservation {
        id: id(option, n),
        kind: Kind::Sale,
        user: UserId(user),
        concert: imported.concert.concert,
        option,
        seats: seats.iter().copied().map(SeatNo).collect(),
        status: Status::Hold,
        version: 1,
        amount: 5_000 * i64::try_from(seats.len()).unwrap(),
        deadline: Time(at.0 + 300_000_000),
        created_at: at,
        changed_at: at,
        payment_started: false,
    }
}

pub fn id(option: OptionId, n: u32) -> ReservationId {
    ReservationId::stamp(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(n) << 64, option)
}

/// The same reservation one transition later.
pub fn next(row: &Reservation, status: Status) -> Reservation {
    let waits = matches!(status, Status::Hold | Status::Paying);
    Reservation {
        status,
        version: row.version + 1,
        deadline: if waits { row.deadline } else { Time::NEVER },
        changed_at: Time(row.changed_at.0 + 1_000),
        payment_started: row.payment_started || matches!(status, Status::Paying | Status::Confirmed),
        ..row.clone()
    }
}
