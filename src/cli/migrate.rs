//! `hotseat migrate`.

use std::io::Write as _;

use super::Failure;
use super::args::MigrateArgs;
use crate::app::migrate;
use crate::config::load;

pub(super) async fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let (place, from, to) = migrate(&config).await?;
    let mut out = std::io::stdout();
    if from == to {
        writeln!(out, "{place}: the schema is up to date (version {to}).")?;
    } else {
        writeln!(out, "{place}: the schema went from version {from} to {to}.")?;
    }
    Ok(())
}
