//! How many files this process may have open: each connection is one.

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Beside connections: libraries, reports, the runtime.
const OTHERS: u64 = 64;

/// Makes room for so many connections.
///
/// # Errors
/// The system allows fewer; says how to raise that.
pub fn make_room(connections: u64) -> anyhow::Result<()> {
    let wanted = connections + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("how many files may be open")?;
    if soft >= wanted {
        return Ok(());
    }
    if hard < wanted {
        bail!(
            "{connections} connections need {wanted} open files, and this shell allows {hard}: \
             try `ulimit -n {wanted}` as root, or fewer connections"
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).with_context(|| {
        format!("{connections} connections need {wanted} open files: try `ulimit -n {wanted}` first")
    })
}
