//! How PostgreSQL looks rows up while a sale runs that nobody has analysed.

use std::time::Duration;

use engine::Status;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::chain::{hold, next};
use crate::postgres::PgWorld;
use crate::world::Sale;

/// Plans that are made while the tables are empty serve a whole sale: none of them may read a table from end to end.
#[tokio::test]
async fn a_sale_on_an_empty_database_is_written_by_key_from_its_first_batch() {
    const SCANS: &str = "
SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables
 WHERE relname IN ('reservations', 'reservation_seats', 'reservation_events') ORDER BY relname";
    const SALES: u32 = 40;
    let world = PgWorld::new();
    let mut sale = Sale::new(&world).await;
    let mut watcher = world.url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let before: Vec<(String, i64, i64)> = sqlx::query_as(SCANS).fetch_all(&mut watcher).await.unwrap();
    // One statement is planned anew five times before its plan is kept.
    for sold in 1..=SALES {
        let born = hold(&sale.imported, sold, 42, &[1]);
        let cancelled = next(&born, Status::Cancelled);
        for row in [sale.chain.reservation(&born), sale.chain.reservation(&cancelled)] {
            sale.chain.applied(&sale.store, vec![row]).await;
        }
    }
    // A session that ends has told everything that it did.
    sale.store.close().await;
    let told = loop {
        let told: Vec<(String, i64, i64)> = sqlx::query_as(SCANS).fetch_all(&mut watcher).await.unwrap();
        if told.iter().all(|(_, _, by_key)| *by_key >= i64::from(SALES)) {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for ((table, before, _), (_, now, _)) in before.iter().zip(&told) {
        assert_eq!(now - before, 0, "{table} was read from end to end");
    }
}
