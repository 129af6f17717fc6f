//! How gates are set, and what they did.

use std::sync::Arc;

use actors::gates::ports::{Admitted, Fence, GateRow, History, HistoryRow, Written};
use actors::ports::LedgerError;
use engine::gate::{Mode, Policy, State};
use engine::{ConcertId, Epoch, ShardId, Time, UserId};
use hotseat::catalogue::directory::Directory;

use crate::draws::committed;
use crate::moves::other;
use crate::world::{OWNER, Sale, Store, T0, TTL, World};

pub const OPERATOR: UserId = UserId(900);

pub fn fence(sale: &Sale) -> Fence {
    Fence { shard: sale.shard(), epoch: sale.chain.epoch }
}

/// Each version sets everything anew.
pub fn gate(concert: ConcertId, version: u64) -> GateRow {
    let n = u32::try_from(version).unwrap();
    let odd = n % 2 == 1;
    let policy = Policy {
        state: State::from_number(u8::try_from((version - 1) % 4 + 1).unwrap()).unwrap(),
        mode: if odd { Mode::Fifo } else { Mode::PresaleDraw },
        per_second: odd.then_some(u32::MAX - n),
        max_active: (!odd).then_some(n),
        opens_at: (!odd).then_some(Time(T0 + i64::from(n))),
    };
    GateRow { concert, version, policy, changed_at: Time(T0 - i64::from(n)) }
}

pub fn admitted(since: i64, until: i64, count: u64) -> Admitted {
    Admitted { since: Time(T0 + since), until: Time(T0 + until), count }
}

async fn set(sale: &Sale, row: &GateRow) -> Written {
    sale.store.set_gate(fence(sale), row, OPERATOR).await.unwrap()
}

async fn history(store: &Arc<dyn Store>, concert: ConcertId) -> Vec<HistoryRow> {
    store.gate_history(concert, None, 1_000).await.unwrap()
}

pub async fn a_gate_comes_back(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    assert_eq!(sale.store.gate(concert).await.unwrap(), None);
    assert_eq!(sale.store.gates(sale.shard()).await.unwrap(), []);
    for version in 1..=8 {
        let row = gate(concert, version);
        assert_eq!(set(&sale, &row).await, Written::Done);
        assert_eq!(sale.store.gate(concert).await.unwrap(), Some(row));
    }
    assert_eq!(sale.store.gate(ConcertId(u64::from(u32::MAX))).await.unwrap(), None);
}

pub async fn gates_are_listed_by_shard(world: &impl World) {
    let sale = Sale::new(world).await;
    let (elsewhere, chain) = Sale::further(&sale.store, "Tosca").await;
    let row = gate(sale.imported.concert.concert, 1);
    assert_eq!(set(&sale, &row).await, Written::Done);
    assert_eq!(sale.store.gates(chain.shard).await.unwrap(), []);
    let there = gate(elsewhere.concert.concert, 1);
    let there_fence = Fence { shard: chain.shard, epoch: chain.epoch };
    assert_eq!(sale.store.set_gate(there_fence, &there, OPERATOR).await.unwrap(), Written::Done);
    assert_eq!(sale.store.gates(sale.shard()).await.unwrap(), [row]);
    assert_eq!(sale.store.gates(chain.shard).await.unwrap(), [there]);
}

pub async fn a_gate_is_set_from_the_version_before(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    for version in [2, 3] {
        assert_eq!(set(&sale, &gate(concert, version)).await, Written::Conflict, "{version} is no first one");
    }
    assert_eq!(history(&sale.store, concert).await, []);
    assert_eq!(set(&sale, &gate(concert, 1)).await, Written::Done);
    assert_eq!(set(&sale, &gate(concert, 2)).await, Written::Done);
    for version in [1, 2, 4] {
        let row = GateRow { changed_at: Time(T0 + 5), ..gate(concert, version) };
        assert_eq!(set(&sale, &row).await, Written::Conflict, "{version} does not follow 2");
    }
    let none = GateRow { version: 0, ..gate(concert, 1) };
    assert_eq!(set(&sale, &none).await, Written::Conflict);
    assert_eq!(sale.store.gate(concert).await.unwrap(), Some(gate(concert, 2)));
    assert_eq!(history(&sale.store, concert).await.len(), 2, "a refusal leaves no line");
}

/// Who does not know what became of a change asks the same once more.
pub async fn a_change_of_a_gate_again_is_done_already(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let first = gate(concert, 1);
    for _ in 0..3 {
        assert_eq!(set(&sale, &first).await, Written::Done);
    }
    assert_eq!(history(&sale.store, concert).await.len(), 1);
    let by_another = sale.store.set_gate(fence(&sale), &first, UserId(901)).await.unwrap();
    assert_eq!(by_another, Written::Conflict, "that one was not heard");
    assert_eq!(set(&sale, &gate(concert, 2)).await, Written::Done);
    assert_eq!(set(&sale, &gate(concert, 2)).await, Written::Done);
    assert_eq!(set(&sale, &first).await, Written::Conflict, "that one is over");
}

pub async fn a_history_is_newest_first_and_paged(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let by = UserId(u64::MAX - 1);
    let mut expected = Vec::new();
    for version in 1..=4 {
        let row = gate(concert, version);
        assert_eq!(sale.store.set_gate(fence(&sale), &row, by).await.unwrap(), Written::Done);
        expected.push(History::Set { row, by });
        let at = i64::try_from(version).unwrap();
        let note = admitted(at, at + 1, u64::MAX - version);
        assert_eq!(sale.store.note_admitted(fence(&sale), concert, note).await.unwrap(), Written::Done);
        expected.push(History::Admitted(note));
    }
    let mut expected: Vec<_> = (1..).zip(expected).map(|(no, what)| HistoryRow { no, what }).collect();
    expected.reverse();
    assert_eq!(history(&sale.store, concert).await, expected);
    let page = |before, limit| sale.store.gate_history(concert, before, limit);
    assert_eq!(page(None, 3).await.unwrap(), expected[..3]);
    assert_eq!(page(Some(6), 3).await.unwrap(), expected[3..6]);
    assert_eq!(page(Some(3), 9).await.unwrap(), expected[6..]);
    assert_eq!(page(Some(1), 9).await.unwrap(), []);
    assert_eq!(page(Some(u64::MAX), 1).await.unwrap(), expected[..1]);
    assert_eq!(history(&sale.store, ConcertId(concert.0 + 1)).await, []);
}

pub async fn what_was_admitted_is_noted_once(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let note = |admitted| sale.store.note_admitted(fence(&sale), concert, admitted);
    assert_eq!(note(admitted(0, 10, 7)).await.unwrap(), Written::Conflict, "nobody ever set that gate");
    assert_eq!(set(&sale, &gate(concert, 1)).await, Written::Done);
    for _ in 0..2 {
        assert_eq!(note(admitted(0, 10, 7)).await.unwrap(), Written::Done);
    }
    assert_eq!(set(&sale, &gate(concert, 2)).await, Written::Done);
    assert_eq!(note(admitted(0, 10, 7)).await.unwrap(), Written::Done, "again, behind a change");
    assert_eq!(history(&sale.store, concert).await.len(), 3);
    assert_eq!(note(admitted(10, 20, 7)).await.unwrap(), Written::Done);
    let newest = history(&sale.store, concert).await[0];
    assert_eq!(newest, HistoryRow { no: 4, what: History::Admitted(admitted(10, 20, 7)) });
}

/// Nothing is written by who does not own the concert's shard in that epoch, nor after a hand-over.
pub async fn gates_are_fenced(world: &impl World) {
    let sale = Sale::new(world).await;
    let (_, elsewhere) = Sale::further(&sale.store, "Tosca").await;
    let concert = sale.imported.concert.concert;
    let mine = fence(&sale);
    let refused = async |fence: Fence, why: &str| {
        let store = &sale.store;
        let version = store.gate(concert).await.unwrap().map_or(1, |row| row.version + 1);
        let set = store.set_gate(fence, &gate(concert, version), OPERATOR).await.unwrap();
        assert_eq!(set, Written::Fenced, "{why}");
        let note = store.note_admitted(fence, concert, admitted(5, 6, 7)).await.unwrap();
        assert_eq!(note, Written::Fenced, "{why}");
        let draw = store.save_draw(fence, &committed(concert, 1)).await.unwrap();
        assert_eq!(draw, Written::Fenced, "{why}");
    };
    refused(Fence { epoch: Epoch(mine.epoch.0 + 1), ..mine }, "an epoch to come").await;
    refused(Fence { epoch: Epoch(0), ..mine }, "an epoch of before").await;
    refused(Fence { shard: elsewhere.shard, epoch: elsewhere.epoch }, "another shard's").await;
    let free = (0..8).map(ShardId).find(|shard| ![mine.shard, elsewhere.shard].contains(shard)).unwrap();
    refused(Fence { shard: free, epoch: mine.epoch }, "nobody's").await;
    assert_eq!(set(&sale, &gate(concert, 1)).await, Written::Done);
    sale.store.hand_over(mine.shard, mine.epoch, &other()).await.unwrap().unwrap();
    refused(mine, "handed over").await;
    refused(Fence { epoch: Epoch(mine.epoch.0 + 1), ..mine }, "the new owner's").await;
    assert_eq!(sale.store.gate(concert).await.unwrap(), Some(gate(concert, 1)));
    assert_eq!(history(&sale.store, concert).await.len(), 1);
    assert_eq!(sale.store.draw(concert, None).await.unwrap(), None);
}

/// One of several first changes is done, one of several second ones, and every line has a number of its own.
pub async fn changes_of_a_gate_at_once_do_not_mix(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    for version in 1..=2 {
        let row = gate(concert, version);
        let changes = (0..6).map(|n| {
            let (store, fence) = (sale.store.clone(), fence(&sale));
            tokio::spawn(async move { store.set_gate(fence, &row, UserId(n + 1)).await.unwrap() })
        });
        let mut done = 0;
        for change in changes.collect::<Vec<_>>() {
            done += usize::from(change.await.unwrap() == Written::Done);
        }
        assert_eq!(done, 1);
    }
    let notes = (0..12).map(|n| {
        let (store, fence) = (sale.store.clone(), fence(&sale));
        tokio::spawn(async move { store.note_admitted(fence, concert, admitted(n, n + 1, 1)).await.unwrap() })
    });
    for note in notes.collect::<Vec<_>>() {
        assert_eq!(note.await.unwrap(), Written::Done);
    }
    let numbers: Vec<_> = history(&sale.store, concert).await.iter().map(|row| row.no).collect();
    assert_eq!(numbers, (1..=14).rev().collect::<Vec<_>>());
}

pub async fn gates_outlive_the_process(world: &impl World) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    let draw = crate::draws::frozen(concert, 1, 40);
    for version in 1..=2 {
        assert_eq!(set(&sale, &gate(concert, version)).await, Written::Done);
    }
    let note = sale.store.note_admitted(fence(&sale), concert, admitted(0, 10, 7)).await.unwrap();
    assert_eq!(note, Written::Done);
    assert_eq!(sale.store.save_draw(fence(&sale), &draw).await.unwrap(), Written::Done);
    let (before, mine) = (history(&sale.store, concert).await, fence(&sale));
    let shard = sale.shard();
    drop(sale);
    let store = world.open(OWNER, TTL).await;
    assert_eq!(store.gates(shard).await.unwrap(), [gate(concert, 2)]);
    assert_eq!(history(&store, concert).await, before);
    assert_eq!(store.draw(concert, None).await.unwrap(), Some(draw));
    // The same process's name, and the epoch it had.
    assert_eq!(store.set_gate(mine, &gate(concert, 3), OPERATOR).await.unwrap(), Written::Done);
    drop(store);
    let store = world.open(OWNER + 1, TTL).await;
    assert_eq!(store.set_gate(mine, &gate(concert, 4), OPERATOR).await.unwrap(), Written::Fenced);
    assert_eq!(store.gate(concert).await.unwrap(), Some(gate(concert, 3)));
}

/// What the edge asks before a sale: the shard's own event says it, and a concert that has no policy has no gate.
pub async fn a_concert_says_whether_it_is_gated(world: &impl World) {
    let mut sale = Sale::new(world).await;
    Sale::further(&sale.store, "Tosca").await;
    let concert = sale.imported.concert.concert;
    let directory = Directory::new();
    for (version, gate) in [(0, false), (1, true), (2, false), (3, true)] {
        if version > 0 {
            let policy = engine::option::Policy { reservations_per_user: 4, gate };
            let set = sale.chain.policy(concert, policy, version, T0 + 1);
            sale.chain.applied(&sale.store, vec![set]).await;
        }
        let gated: Vec<_> =
            sale.store.concerts(None, 9).await.unwrap().iter().map(|concert| concert.gated).collect();
        assert_eq!(gated, [gate, false], "version {version}");
        directory.refresh(sale.store.as_ref()).await.unwrap();
        assert_eq!(directory.concert(concert).unwrap().gated, gate, "version {version}");
    }
    let again = crate::catalogue::bring(&sale.store, "Der Ring", T0 + 9, 5, true).await.unwrap();
    assert!(again.concert.gated, "a further option tells it as well");
}

/// Beside a running server.
pub async fn are_read_only(sale: &Sale, beside: &Arc<dyn Store>) {
    let (fence, concert) = (fence(sale), sale.imported.concert.concert);
    let (row, draw, note) = (gate(concert, 1), committed(concert, 1), admitted(0, 10, 7));
    let write = async |store: &Arc<dyn Store>| {
        [
            store.set_gate(fence, &row, OPERATOR).await,
            store.note_admitted(fence, concert, note).await,
            store.save_draw(fence, &draw).await,
        ]
    };
    let refused = write(beside).await;
    let unavailable = |answer: &Result<_, _>| matches!(answer, Err(LedgerError::Unavailable(_)));
    assert!(refused.iter().all(unavailable), "{refused:?}");
    assert_eq!(beside.gate(concert).await.unwrap(), None);
    for written in write(&sale.store).await {
        assert_eq!(written.unwrap(), Written::Done);
    }
    assert_eq!(beside.gates(sale.shard()).await.unwrap(), [row]);
    assert_eq!(history(beside, concert).await.len(), 2);
    assert_eq!(beside.draw(concert, None).await.unwrap(), Some(draw));
}

/// What a stranger may do to the tables, and who meets it.
pub const CORRUPTIONS: [(&str, Read); 13] = [
    ("UPDATE gates SET state = 9", Read::Gates),
    ("UPDATE gates SET mode = 0", Read::Gates),
    ("UPDATE gates SET per_second = -1", Read::Gates),
    ("UPDATE gate_history SET kind = 7 WHERE no = 1", Read::History),
    ("UPDATE gate_history SET changed_by = NULL WHERE no = 1", Read::History),
    ("UPDATE gate_draws SET entrants = seed", Read::Draw),
    ("UPDATE gate_draws SET upto_turn = 12", Read::Draw),
    ("UPDATE gate_draws SET first_turn = NULL", Read::Draw),
    ("UPDATE gate_draws SET published_at = NULL", Read::Draw),
    ("UPDATE gate_draws SET entrants = NULL", Read::Draw),
    ("UPDATE gate_draws SET beacon_due = NULL", Read::Draw),
    ("UPDATE gate_draws SET root = entrants", Read::Draw),
    ("UPDATE gate_draws SET root = NULL, drawn_at = 1", Read::Draw),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Gates,
    History,
    Draw,
}

/// Sets a gate, admits, draws, lets the stranger in, and hears what is said then.
pub async fn corruption_is_said(world: &impl World, read: Read, tamper: impl AsyncFnOnce()) {
    let sale = Sale::new(world).await;
    let concert = sale.imported.concert.concert;
    assert_eq!(set(&sale, &gate(concert, 1)).await, Written::Done);
    let draw = crate::draws::frozen(concert, 1, 40);
    assert_eq!(sale.store.save_draw(fence(&sale), &draw).await.unwrap(), Written::Done);
    tamper().await;
    let store = &sale.store;
    let answers = [
        (Read::Gates, store.gate(concert).await.map(drop)),
        (Read::Gates, store.gates(sale.shard()).await.map(drop)),
        (Read::History, store.gate_history(concert, None, 9).await.map(drop)),
        (Read::Draw, store.draw(concert, None).await.map(drop)),
    ];
    for (asked, answer) in answers {
        match answer {
            Err(LedgerError::Corrupt(reason)) if asked == read => {
                assert!(reason.contains("column"), "{reason}")
            }
            Ok(()) if asked != read => {}
            answer => panic!("{asked:?}: {answer:?}"),
        }
    }
}
