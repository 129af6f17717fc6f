//! Seals events: gives each its number and the hash that commits to everything before it.
//!
//! `hash = SHA-256(prev_hash ‖ columns)`, where the columns stand in the order of [`EventRow`]'s fields
//! without the two hashes. Numbers are big-endian at their full width, a flag is one byte. Two columns
//! have a length in front: `request` is the byte 0, or the byte 1, the key (16 bytes) and the content
//! (8 bytes); `seats` is their count in one byte and four bytes each. So no two different rows have the
//! same bytes. `prev_hash` is the hash of the shard's event before, all zero for the first.

use engine::ChainHead;
use sha2::{Digest, Sha256};

use crate::row::EventRow;

/// No encoding is longer: the fixed columns, a request of 25 bytes and 8 seats.
pub const ENCODED_MAX: usize = 107 + 25 + 1 + 4 * engine::limits::SEATS_PER_COMMAND;

/// Puts the row behind `head`: sets its number and both hashes. Answers with the new head.
pub fn seal(row: &mut EventRow, head: ChainHead) -> ChainHead {
    row.event_seq = head.event_seq + 1;
    row.prev_hash = head.hash;
    row.hash = hash(row);
    ChainHead { event_seq: row.event_seq, hash: row.hash }
}

/// The hash the row must have, from its columns and its `prev_hash`; its `hash` is not looked at.
#[must_use]
pub fn hash(row: &EventRow) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(ENCODED_MAX);
    encode(row, &mut bytes);
    Sha256::new().chain_update(row.prev_hash).chain_update(&bytes).finalize().into()
}

/// The canonical bytes of every column but the hashes, pushed onto `out`.
pub fn encode(row: &EventRow, out: &mut Vec<u8>) {
    out.extend(row.shard.0.to_be_bytes());
    out.extend(row.event_seq.to_be_bytes());
    out.extend(row.epoch.0.to_be_bytes());
    out.extend(row.at.to_be_bytes());
    out.push(row.transition);
    out.extend(row.caller.to_be_bytes());
    match row.request {
        None => out.push(0),
        Some(mark) => {
            out.push(1);
            out.extend(mark.key.0.to_be_bytes());
            out.extend(mark.content.to_be_bytes());
        }
    }
    out.extend(row.concert.to_be_bytes());
    out.extend(row.option.to_be_bytes());
    out.extend(row.reservation.0.to_be_bytes());
    out.extend(row.user.to_be_bytes());
    out.push(row.kind);
    out.push(row.status);
    out.extend(row.version.to_be_bytes());
    let seats = row.seats.as_slice();
    out.push(u8::try_from(seats.len()).expect("a seat list keeps at most 8 seats"));
    for seat in seats {
        out.extend(seat.0.to_be_bytes());
    }
    out.extend(row.amount.to_be_bytes());
    out.extend(row.deadline.to_be_bytes());
    out.extend(row.created_at.to_be_bytes());
    out.push(u8::from(row.payment_started));
    out.extend(row.reservations_per_user.to_be_bytes());
    out.push(u8::from(row.gate));
}

#[cfg(test)]
mod tests {
    use engine::command::SeatList;
    use engine::entry::RequestMark;
    use engine::{Epoch, RequestKey, ReservationId, SeatNo, ShardId};

    use super::*;

    fn hold() -> EventRow {
        EventRow {
            shard: ShardId(3),
            event_seq: 0,
            epoch: Epoch(7),
            at: 1_800_000_000_000_000,
            transition: 1,
            caller: 42,
            request: Some(RequestMark { key: RequestKey(0x0123_4567_89ab_cdef), content: 99 }),
            concert: 5,
            option: 11,
            reservation: ReservationId(0x0190_0000_0000_7000_8000_0000_0000_000b),
            user: 42,
            kind: 1,
            status: 1,
            version: 1,
            seats: [SeatNo(1), SeatNo(2)].into_iter().collect::<SeatList>(),
            amount: 12_000,
            deadline: 1_800_000_300_000_000,
            created_at: 1_800_000_000_000_000,
            payment_started: false,
            reservations_per_user: 0,
            gate: false,
            prev_hash: [0; 32],
            hash: [0; 32],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The vector of `docs/ledger.md`: whoever checks a chain with another program starts here.
    #[test]
    fn test_vector() {
        let mut first = hold();
        let head = seal(&mut first, ChainHead::default());
        let mut bytes = Vec::new();
        encode(&first, &mut bytes);
        assert_eq!(hex(&bytes), ENCODED);
        assert_eq!((head.event_seq, hex(&head.hash).as_str()), (1, FIRST));

        let mut second = EventRow { request: None, seats: SeatList::default(), ..hold() };
        let head = seal(&mut second, head);
        assert_eq!((head.event_seq, hex(&head.hash).as_str()), (2, SECOND));
        assert_eq!(second.prev_hash, first.hash);
    }

    const ENCODED: &str = "000300000000000000010000000000000007000665172898800001000000000000002a01000000000000000001\
        23456789abcdef000000000000006300000000000000050000000b0190000000007000800000000000000b0000\
        00000000002a0101000000010200000001000000020000000000002ee0000665173a7a23000006651728988000\
        000000000000";
    const FIRST: &str = "26e70b25b88e1f5adb2c10b10a46da29a59edf87eef88c100bb51d3589293b27";
    const SECOND: &str = "42ca9703f58e25b29ff02169c63524153e9fc7160ab6f7ae029abf900048cdbe";

    #[test]
    fn every_column_takes_part() {
        type Edit = fn(&mut EventRow);
        let edits: [Edit; 23] = [
            |r| r.shard.0 += 1,
            |r| r.event_seq += 1,
            |r| r.epoch.0 += 1,
            |r| r.at += 1,
            |r| r.transition += 1,
            |r| r.caller += 1,
            |r| r.request = None,
            |r| r.request.as_mut().unwrap().key.0 += 1,
            |r| r.request.as_mut().unwrap().content += 1,
            |r| r.concert += 1,
            |r| r.option += 1,
            |r| r.reservation.0 += 1,
            |r| r.user += 1,
            |r| r.kind += 1,
            |r| r.status += 1,
            |r| r.version += 1,
            |r| r.seats.push(SeatNo(0)),
            |r| r.amount -= 1,
            |r| r.deadline += 1,
            |r| r.created_at += 1,
            |r| r.payment_started = true,
            |r| r.reservations_per_user += 1,
            |r| r.gate = true,
        ];
        let mut seen = vec![hash(&hold()), hash(&EventRow { prev_hash: [1; 32], ..hold() })];
        for edit in edits {
            let mut row = hold();
            edit(&mut row);
            seen.push(hash(&row));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn the_longest_row_fits() {
        let mut row = hold();
        row.seats = (0..8).map(SeatNo).collect();
        let mut bytes = Vec::new();
        encode(&row, &mut bytes);
        assert_eq!(bytes.len(), ENCODED_MAX);
    }
}
