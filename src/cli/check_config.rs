//! `hotseat check-config`.

use std::io::Write as _;

use super::Failure;
use super::args::CheckConfigArgs;
use crate::auth_key;
use crate::config::load;

pub(super) fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let loaded = load(&args.place.flags())?;
    auth_key::check(&loaded.config)?;
    let mut out = std::io::stdout().lock();
    for changed in &loaded.changed {
        writeln!(out, "{} = {}  ({})", changed.key, changed.value, changed.source)?;
    }
    let changed = match loaded.changed.len() {
        0 => "every setting is at its default".to_owned(),
        1 => "1 setting is not at its default".to_owned(),
        n => format!("{n} settings are not at their defaults"),
    };
    writeln!(out, "The configuration is valid: {changed}.")?;
    Ok(())
}
