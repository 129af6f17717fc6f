//! `hotseat token`.

use std::io::Write as _;

use super::Failure;
use super::args::TokenArgs;
use crate::auth_key;
use crate::config::load;

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let config = load(&args.place.flags())?.config;
    let tokens = auth_key::open(&config)?;
    let (token, _) = tokens.issue(args.user, args.role.into(), args.tier.clone(), args.ttl)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}
