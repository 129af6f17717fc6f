//! A shard's soft locks in memory beside the mirror's, as a running server tells it
//! (`GET /admin/v1/audit/mirror?shard=N`).

use engine::{OptionId, SeatNo, UserId};
use serde::Deserialize;

use super::report::Finding;

/// What the server compared and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorCheck {
    /// Why nothing was compared.
    pub not_compared: Option<String>,
    pub soft_locks: usize,
    pub findings: Vec<Finding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    not_compared: Option<String>,
    soft_locks: usize,
    differences: Vec<DifferenceBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DifferenceBody {
    option_id: u32,
    seat_no: u32,
    memory_user_id: Option<u64>,
    mirror_user_id: Option<u64>,
}

impl MirrorCheck {
    /// Reads a server's answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let finding = |found: DifferenceBody| Finding::Mirror {
            option: OptionId(found.option_id),
            seat: SeatNo(found.seat_no),
            memory: found.memory_user_id.map(UserId),
            mirror: found.mirror_user_id.map(UserId),
        };
        Ok(Self {
            not_compared: body.not_compared,
            soft_locks: body.soft_locks,
            findings: body.differences.into_iter().map(finding).collect(),
        })
    }
}
