//! What a gate says, as far as a client reads it.

use serde::Deserialize;

/// How it stands with somebody: the answer to a join and a status, and the data of an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// Empty in events that are about the line alone.
    pub status: String,
    /// The number in the order of joining, where the server tells it.
    pub turn: Option<u64>,
    /// From 1.
    pub rank: Option<u64>,
    pub ahead: Option<u64>,
    pub eta_seconds: Option<(f64, Option<f64>)>,
    pub pass: Option<String>,
    /// RFC 3339.
    pub pass_expires_at: Option<String>,
}

/// A gate, as operators read it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    pub state: String,
    pub waiting: u64,
    pub active: u64,
    /// Since the owner began to serve it.
    pub admitted: u64,
}

impl Standing {
    pub fn ahead(&self) -> Option<u64> {
        self.ahead.or(self.rank.map(|rank| rank.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_read_whatever_it_leaves_out() {
        let read = |text: &str| serde_json::from_str::<Standing>(text).unwrap();
        let waiting = read(r#"{"status":"WAITING","rank":8,"ahead":7,"etaSeconds":[1.5,3],"pass":null}"#);
        assert_eq!((waiting.ahead(), waiting.eta_seconds), (Some(7), Some((1.5, Some(3.0)))));
        assert_eq!(read(r#"{"rank":8}"#).ahead(), Some(7));
        assert_eq!(
            read(r#"{"status":"WAITING","etaSeconds":[2,null],"new":1}"#).eta_seconds,
            Some((2.0, None))
        );
        assert_eq!(read(r#"{"status":"NONE"}"#).ahead(), None);
    }
}
