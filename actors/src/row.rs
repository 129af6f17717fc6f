//! One event as the ledger stores it: plain column values, no meaning lost, none added by an adapter.

use engine::command::SeatList;
use engine::entry::{Fact, RequestMark, Transition};
use engine::{Entry, Epoch, RequestKey, ReservationId, SeatNo, ShardId};

/// A row of `reservation_events`. Every column takes part in the hash, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub shard: ShardId,
    /// 1, 2, 3, … without gaps per shard.
    pub event_seq: u64,
    pub epoch: Epoch,
    /// Microseconds since the epoch.
    pub at: i64,
    /// [`Transition`] as a number.
    pub transition: u8,
    /// Who asked; 0 is the shard itself.
    pub caller: u64,
    pub request: Option<RequestMark>,
    /// 0 where the event has none; the same for the columns below.
    pub concert: u64,
    pub option: u32,
    pub reservation: ReservationId,
    pub user: u64,
    pub kind: u8,
    pub status: u8,
    /// Of the reservation, option or policy row after the event.
    pub version: u32,
    pub seats: SeatList,
    pub amount: i64,
    /// `i64::MAX` is never.
    pub deadline: i64,
    pub created_at: i64,
    pub payment_started: bool,
    /// Policy: reservations per user.
    pub reservations_per_user: u32,
    /// Policy: whether the concert's gate is on.
    pub gate: bool,
    pub prev_hash: [u8; 32],
    pub hash: [u8; 32],
}

impl EventRow {
    /// The columns of an entry; `event_seq` and the hashes are the sealer's to set.
    #[must_use]
    pub fn unsealed(shard: ShardId, epoch: Epoch, entry: &Entry) -> Self {
        let blank = Self {
            shard,
            event_seq: 0,
            epoch,
            at: entry.at.0,
            transition: entry.fact.transition() as u8,
            caller: entry.caller.0,
            request: entry.request,
            concert: 0,
            option: 0,
            reservation: ReservationId(0),
            user: 0,
            kind: 0,
            status: 0,
            version: 0,
            seats: SeatList::default(),
            amount: 0,
            deadline: i64::MAX,
            created_at: 0,
            payment_started: false,
            reservations_per_user: 0,
            gate: false,
            prev_hash: [0; 32],
            hash: [0; 32],
        };
        match &entry.fact {
            Fact::Reservation(r) => Self {
                concert: r.concert.0,
                option: r.option.0,
                reservation: r.id,
                user: r.user.0,
                kind: r.kind as u8,
                status: r.status as u8,
                version: r.version,
                seats: r.seats,
                amount: r.amount,
                deadline: r.deadline.0,
                created_at: r.created_at.0,
                payment_started: r.payment_started,
                ..blank
            },
            Fact::Option { option, concert, status, version } => Self {
                concert: concert.0,
                option: option.0,
                status: *status as u8,
                version: *version,
                ..blank
            },
            Fact::Policy { concert, policy, version } => Self {
                concert: concert.0,
                version: *version,
                reservations_per_user: policy.reservations_per_user,
                gate: policy.gate,
                ..blank
            },
        }
    }

    /// What happened; `None` for a number this version does not know.
    #[must_use]
    pub const fn transition(&self) -> Option<Transition> {
        Transition::from_number(self.transition)
    }

    /// The seats as the `seats` column stores them: big-endian u32 each.
    #[must_use]
    pub fn seats_bytes(&self) -> Vec<u8> {
        self.seats.iter().flat_map(|seat| seat.0.to_be_bytes()).collect()
    }

    /// The inverse of [`Self::seats_bytes`]; `None` when it is no list of u32.
    #[must_use]
    pub fn seats_from_bytes(bytes: &[u8]) -> Option<SeatList> {
        let (seats, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| seats.iter().map(|seat| SeatNo(u32::from_be_bytes(*seat))).collect())
    }

    /// The key as the `request_key` column stores it.
    #[must_use]
    pub fn request_key_bytes(&self) -> Option<[u8; 16]> {
        self.request.map(|RequestMark { key: RequestKey(key), .. }| key.to_be_bytes())
    }
}
