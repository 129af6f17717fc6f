//! Audits: clean where nothing is wrong, and never where something is.

use std::sync::Arc;

use actors::row::EventRow;
use actors::writer::seal::seal;
use engine::option::{OptionStatus, Policy};
use engine::reservation::Kind;
use engine::{ChainHead, Epoch, Reservation, SeatNo, ShardId, Status, Time};
use hotseat::audit::{self, Derivation, Report, ShardMemory};

use crate::chain::{hold, next};
use crate::world::{Sale, Store, T0, World};

/// Everything that can happen to a reservation, an option and a policy.
pub async fn history(world: &impl World) -> Sale {
    let mut sale = Sale::new(world).await;
    let (chain, imported) = (&mut sale.chain, &sale.imported);
    let mut rows = Vec::new();
    let mut live: Vec<Reservation> = (1..=6).map(|n| hold(imported, n, 42, &[n, n + 10])).collect();
    live.push(Reservation {
        kind: Kind::Block,
        status: Status::Confirmed,
        deadline: Time::NEVER,
        ..hold(imported, 7, 900, &[40])
    });
    live.push(Reservation {
        kind: Kind::Block,
        status: Status::Confirmed,
        deadline: Time::NEVER,
        ..hold(imported, 8, 900, &[41])
    });
    rows.extend(live.iter().map(|row| chain.reservation(row)));
    let moves = [
        (1, Status::Paying),
        (1, Status::Confirmed),
        (2, Status::Expired),
        (3, Status::Confirmed),
        (3, Status::Cancelled),
        (3, Status::Refunded),
        (4, Status::Cancelled),
        (5, Status::Paying),
        (8, Status::Cancelled),
    ];
    sale.chain.applied(&sale.store, rows).await;
    for (n, status) in moves {
        let row = &mut live[n - 1];
        let started = row.payment_started;
        *row = next(row, status);
        row.payment_started &= started || row.kind == Kind::Sale;
        let event = sale.chain.reservation(row);
        sale.chain.applied(&sale.store, vec![event]).await;
    }
    let concert = sale.imported.concert.concert;
    let policy = Policy { reservations_per_user: 3, gate: true };
    let rows = vec![
        sale.chain.reservation(&hold(&sale.imported, 9, 43, &[2, 4])),
        sale.chain.option(&sale.imported, OptionStatus::Closed, 2, T0 + 9),
        sale.chain.policy(concert, policy, 1, T0 + 9),
    ];
    sale.chain.applied(&sale.store, rows).await;
    sale
}

pub async fn audit_of(store: &Arc<dyn Store>, memory: &[ShardMemory]) -> Report {
    let mut last = None;
    let report = audit::run(&**store, memory, &mut |progress| last = Some(progress)).await.unwrap();
    let last = last.expect("there is something to audit");
    assert_eq!(last.done, last.total);
    report
}

/// A server's answer about the shard of [`history`].
fn memory_json(sale: &Sale) -> serde_json::Value {
    let option = sale.imported.option.option;
    let id = |n| crate::chain::id(option, n).to_string();
    let row = |n: u32, kind: &str, user: u32, seats: &[u32], status: &str, version: u32| {
        serde_json::json!({
            "reservationId": id(n), "kind": kind, "userId": user, "optionId": option.0, "seats": seats,
            "status": status, "version": version,
        })
    };
    let mut map = [0u8; 13];
    let mut show = |seat: usize, state: u8| map[seat / 4] |= state << (2 * (seat % 4));
    for (seats, state) in [(&[1, 11, 40][..], 3), (&[5, 15, 6, 16, 2, 4], 2), (&[20, 21], 1)] {
        seats.iter().for_each(|seat| show(*seat, state));
    }
    use base64::Engine as _;
    let map = base64::engine::general_purpose::STANDARD.encode(map);
    serde_json::json!({
        "shard": sale.shard().0, "epoch": 1, "eventSeq": sale.chain.head.event_seq,
        "hash": sale.chain.head.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "digest": "0123456789abcdef", "pending": 2,
        "reservations": [
            row(1, "SALE", 42, &[1, 11], "CONFIRMED", 3),
            row(2, "SALE", 42, &[2, 12], "EXPIRED", 2),
            row(5, "SALE", 42, &[5, 15], "PAYING", 2),
            row(6, "SALE", 42, &[6, 16], "HOLD", 1),
            row(7, "BLOCK", 900, &[40], "CONFIRMED", 1),
            row(9, "SALE", 43, &[2, 4], "HOLD", 1),
        ],
        "options": [{"optionId": option.0, "seatCount": 50, "map": map}],
    })
}

fn memory(value: &serde_json::Value) -> ShardMemory {
    ShardMemory::from_json(value.to_string().as_bytes()).unwrap()
}

pub async fn an_honest_history_is_clean(world: &impl World) {
    let sale = history(world).await;
    let report = audit_of(&sale.store, &[]).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.heads, [(sale.shard(), sale.chain.head)]);
    assert_eq!((report.events, report.reservations), (sale.chain.head.event_seq, 9));
    assert_eq!(report.seats_taken, 9);
    assert!(report.to_string().contains("memory was not compared"));
    assert!(report.to_string().ends_with("no differences"));
}

pub async fn memory_is_compared_at_its_own_event(world: &impl World) {
    let mut sale = history(world).await;
    let value = memory_json(&sale);
    // The ledger has gone on since.
    let rows = vec![sale.chain.reservation(&hold(&sale.imported, 10, 43, &[30]))];
    sale.chain.applied(&sale.store, rows).await;
    let report = audit_of(&sale.store, &[memory(&value)]).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.memories, 1);
}

pub async fn a_wrong_memory_is_told(world: &impl World) {
    type Edit = fn(&mut serde_json::Value);
    let rows: [(&str, Edit); 12] = [
        ("reservation", |v| v["reservations"][0]["status"] = "CANCELLED".into()),
        ("reservation", |v| v["reservations"][1]["version"] = 3.into()),
        ("reservation", |v| v["reservations"][2]["userId"] = 43.into()),
        ("reservation", |v| v["reservations"][3]["seats"] = serde_json::json!([6, 17])),
        ("reservation", |v| v["reservations"][4]["kind"] = "SALE".into()),
        ("memory says nothing", |v| drop(v["reservations"].as_array_mut().unwrap().remove(5))),
        ("events say nothing", |v| {
            v["reservations"][1]["reservationId"] = "01900000-0000-7000-8000-ffff00000001".into();
        }),
        ("chain head", |v| v["eventSeq"] = 99.into()),
        ("chain head", |v| v["hash"] = "00".repeat(32).into()),
        ("seat 1 of", |v| v["options"][0]["map"] = "AAAAAAAAAAAAAAAAAA==".into()),
        ("option", |v| v["options"] = serde_json::json!([])),
        ("option 77", |v| v["options"][0]["optionId"] = 77.into()),
    ];
    let sale = history(world).await;
    for (expected, edit) in rows {
        let mut value = memory_json(&sale);
        edit(&mut value);
        let report = audit_of(&sale.store, &[memory(&value)]).await;
        assert!(!report.is_clean(), "{expected}");
        let text = report.to_string();
        assert!(text.contains("memory   shard"), "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// An audit beside a running server sees one moment, whatever is written meanwhile.
pub async fn a_snapshot_is_one_moment(world: &impl World) {
    let mut sale = Sale::new(world).await;
    let mut snapshot = sale.store.snapshot().await.unwrap();
    let before = sale.chain.head;
    let row = sale.chain.reservation(&hold(&sale.imported, 1, 42, &[1]));
    sale.chain.applied(&sale.store, vec![row]).await;
    assert_eq!(snapshot.heads().await.unwrap(), [(sale.shard(), before)]);
    assert_eq!(snapshot.events(sale.shard(), 0, 9).await.unwrap().len(), 1);
    assert_eq!(snapshot.reservation_count().await.unwrap(), 0);
    assert_eq!(snapshot.reservations(None, 9).await.unwrap(), []);
    drop(snapshot);
    let mut snapshot = sale.store.snapshot().await.unwrap();
    assert_eq!(snapshot.reservations(None, 9).await.unwrap().len(), 1);
}

/// Each line forges one event of a shard's log; the forger reseals what comes after, or does not.
pub async fn a_forged_log_is_told(world: &impl World) {
    type Edit = fn(&mut Vec<EventRow>);
    const SEALED: bool = true;
    let rows: [(&str, bool, Edit); 22] = [
        ("rewritten", !SEALED, |rows| rows[3].user += 1),
        ("rewritten", !SEALED, |rows| rows[3].hash[0] ^= 1),
        ("rewritten", !SEALED, |rows| rows[3].prev_hash[0] ^= 1),
        ("events from 4 are missing", !SEALED, |rows| _ = rows.remove(3)),
        ("is sold to", SEALED, |rows| rows[2].seats = [SeatNo(1)].into_iter().collect()),
        ("goes from version", SEALED, |rows| rows[9].version += 1),
        ("which is", SEALED, |rows| rows[11].reservation = rows[10].reservation),
        ("changes what", SEALED, |rows| rows[9].user += 1),
        ("changes what", SEALED, |rows| rows[9].amount -= 1),
        ("changes what", SEALED, |rows| rows[9].seats = [SeatNo(1)].into_iter().collect()),
        ("born in version 2", SEALED, |rows| rows[1].version = 2),
        ("without seats", SEALED, |rows| rows[1].seats = [].into_iter().collect()),
        ("not ascending", SEALED, |rows| rows[1].seats = [SeatNo(9), SeatNo(8)].into_iter().collect()),
        ("never added", SEALED, |rows| _ = rows.remove(0)),
        ("never held", SEALED, |rows| _ = rows.remove(1)),
        ("deadline", SEALED, |rows| rows[1].deadline = i64::MAX),
        ("kind 99 is unknown", SEALED, |rows| rows[1].transition = 99),
        ("leaves a", SEALED, |rows| rows[9].status = 3),
        ("says concert", SEALED, |rows| rows[1].concert += 1),
        ("not an id of option", SEALED, |rows| rows[1].reservation.0 ^= 1),
        ("epoch 1 after epoch 9", SEALED, |rows| rows[4].epoch = Epoch(9)),
        ("goes from version 0 to 2", SEALED, |rows| rows[0].version = 2),
    ];
    let sale = history(world).await;
    let mut snapshot = sale.store.snapshot().await.unwrap();
    let honest = snapshot.events(sale.shard(), 0, 99).await.unwrap();
    assert!(derive(&honest).is_clean());
    for (expected, sealed, edit) in rows {
        let mut forged = honest.clone();
        edit(&mut forged);
        if sealed {
            let mut head = ChainHead::default();
            forged.iter_mut().for_each(|row| head = seal(row, head));
        }
        let report = derive(&forged).to_string();
        assert!(report.contains(expected), "{expected}: {report}");
    }
}

fn derive(rows: &[EventRow]) -> Report {
    let mut report = Report::default();
    let mut derivation = Derivation::new(ShardId(rows[0].shard.0));
    rows.iter().for_each(|row| derivation.push(row, &mut report));
    report
}
