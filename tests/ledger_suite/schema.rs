//! Both databases have the same tables, columns and unique keys, under the same number.

use std::collections::BTreeSet;

use actors::gates::ports::{Fence, Written};
use engine::ShardId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use crate::gates::{OPERATOR, gate};
use crate::postgres::PgWorld;
use crate::sqlite::{SqliteWorld, stranger};
use crate::world::{OWNER, TTL, World};

/// Some of what a server of the first schema left; the same for both databases.
pub const FIRST_HALL: &str = "
INSERT INTO concerts VALUES (1, 'Der Ring', 3, FALSE, 1), (2, 'Tosca', 4, FALSE, 1);
INSERT INTO policies VALUES (1, 4, TRUE, 1)";

pub async fn sells_the_first_hall(world: &impl World) {
    let store = world.open(OWNER, TTL).await;
    let concerts = store.concerts(None, 9).await.unwrap();
    let seen: Vec<_> = concerts.iter().map(|row| (row.title.as_str(), row.shard.0, row.gated)).collect();
    assert_eq!(seen, [("Der Ring", 3, true), ("Tosca", 4, false)]);
    assert_eq!(store.gates(ShardId(3)).await.unwrap(), []);
    let epoch = store.acquire(ShardId(3)).await.unwrap().unwrap();
    let row = gate(concerts[0].concert, 1);
    let fence = Fence { shard: ShardId(3), epoch };
    assert_eq!(store.set_gate(fence, &row, OPERATOR).await.unwrap(), Written::Done);
    assert_eq!(store.gates(ShardId(3)).await.unwrap(), [row]);
}

const SQLITE: &str = "
SELECT m.name || '.' || c.name || CASE WHEN c.\"notnull\" OR c.pk > 0 THEN '' ELSE ' or nothing' END
  FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
UNION
SELECT m.name || ' once per (' || (SELECT group_concat(name, ', ') FROM
    (SELECT i.name FROM pragma_index_info(x.name) i ORDER BY i.seqno)) || ')' || iif(x.partial, ' in part', '')
  FROM sqlite_schema m JOIN pragma_index_list(m.name) x WHERE m.type = 'table' AND x.\"unique\"
UNION
SELECT m.name || ' once per (' || (SELECT group_concat(name, ', ') FROM
    (SELECT c.name FROM pragma_table_info(m.name) c WHERE c.pk > 0 ORDER BY c.pk)) || ')'
  FROM sqlite_schema m WHERE m.type = 'table'";

const POSTGRES: &str = "
SELECT table_name || '.' || column_name || CASE is_nullable WHEN 'YES' THEN ' or nothing' ELSE '' END
  FROM information_schema.columns WHERE table_schema = 'public'
UNION
SELECT x.indrelid::regclass || ' once per (' || (SELECT string_agg(a.attname, ', ' ORDER BY k.n)
    FROM unnest(x.indkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a
      ON a.attrelid = x.indrelid AND a.attnum = k.attnum) || ')'
    || CASE WHEN x.indpred IS NULL THEN '' ELSE ' in part' END
  FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
 WHERE x.indisunique AND t.relnamespace = 'public'::regnamespace";

#[tokio::test]
async fn both_schemas_say_the_same() {
    let world = SqliteWorld::new();
    world.open(OWNER, TTL).await.close().await;
    let mut sqlite = stranger(world.dir()).await;
    let rows = sqlx::query(SQLITE).fetch_all(&mut sqlite).await.unwrap();
    let in_sqlite: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();

    let world = PgWorld::new();
    world.open(OWNER, TTL).await.close().await;
    let mut postgres = PgConnection::connect(&world.url).await.unwrap();
    let rows = sqlx::query(POSTGRES).fetch_all(&mut postgres).await.unwrap();
    let in_postgres: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();

    assert!(in_sqlite.contains("reservation_seats once per (option_id, seat_no) in part"), "{in_sqlite:#?}");
    assert!(in_sqlite.contains("reservation_events.request_key or nothing"), "{in_sqlite:#?}");
    assert!(in_sqlite.contains("gate_history once per (concert_id, version)"), "{in_sqlite:#?}");
    assert!(in_sqlite.len() > 90);
    let differ: Vec<_> = in_sqlite.symmetric_difference(&in_postgres).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
