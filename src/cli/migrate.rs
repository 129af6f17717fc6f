//! `hotseat migrate`.

use std::io::Write as _;

use super::Failure;
use super::args::MigrateArgs;
use crate::config::load;
use crate::ledger::sqlite::migrate;

pub(super) async fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let migrated = migrate(&config.node.data).await?;
    let data = config.node.data.display();
    let mut out = std::io::stdout();
    if migrated.from == migrated.to {
        writeln!(out, "{data}: the schema is up to date (version {}).", migrated.to)?;
    } else {
        writeln!(out, "{data}: the schema went from version {} to {}.", migrated.from, migrated.to)?;
    }
    Ok(())
}
