//! What must be configured before there can be gates.

use super::error::Problem;
use crate::pass::NoPassKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// No node could check a pass that is signed here.
    #[error(transparent)]
    PassKey(#[from] NoPassKey),
    /// Another node would not find the line.
    #[error("nodes that work together keep the lines of gates in Redis: mirror.url, the same on all of them")]
    MirrorNotShared,
}

impl Unready {
    pub const fn code(self) -> &'static str {
        match self {
            Self::PassKey(_) => "PASS_KEY_MISSING",
            Self::MirrorNotShared => "MIRROR_NOT_SHARED",
        }
    }
}

impl From<NoPassKey> for Problem {
    fn from(error: NoPassKey) -> Self {
        Self::Unready(error.into())
    }
}
