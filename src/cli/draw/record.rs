//! A draw's public record and an entrant's entry, read field by field: what is wrong is said of the field.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::gate::draw::{Beacon, Digest, DrawRecord, Salt};
use engine::{ConcertId, Time, Turn, UserId};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::http::unhex;

/// A field that cannot be read, or contradicts another.
#[derive(Debug)]
pub(super) struct Wrong {
    pub field: &'static str,
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

impl std::error::Error for Wrong {}

/// Says what is wrong with a field.
pub(super) fn wrong(field: &'static str, what: impl Into<String>) -> Wrong {
    Wrong { field, what: what.into() }
}

/// The public record, as far as it is.
pub(super) struct Record {
    pub concert: ConcertId,
    pub no: u32,
    pub commitment: Digest,
    pub committed_at: Time,
    pub frozen: Option<FrozenRecord>,
    pub drawn: Option<DrawnRecord>,
}

/// What is published at the opening.
pub(super) struct FrozenRecord {
    pub root: Digest,
    pub published_at: Time,
    pub leaves: Vec<Digest>,
    pub round: Option<(u64, Time)>,
}

/// What is published at the end.
pub(super) struct DrawnRecord {
    pub at: Time,
    pub seed: [u8; 32],
    pub beacon: Option<[u8; 32]>,
    pub order: Vec<u32>,
    pub trust: String,
}

impl Record {
    pub(super) fn read(json: &[u8]) -> Result<Self, Wrong> {
        let fields = Fields::read(json, "the record")?;
        let frozen = |fields: &Fields| {
            let leaves = fields.packed("leaves", 32)?.as_chunks().0.to_vec();
            let said = fields.number("entrants")?;
            if said != leaves.len() as u64 {
                return Err(wrong("entrants", format!("says {said}, but there are {} leaves", leaves.len())));
            }
            Ok(FrozenRecord {
                root: fields.bytes("root")?,
                published_at: fields.time("rootPublishedAt")?,
                leaves,
                round: fields.round()?,
            })
        };
        let drawn = |fields: &Fields| {
            let order = fields.packed("order", 4)?;
            Ok(DrawnRecord {
                at: fields.time("drawnAt")?,
                seed: fields.bytes("seed")?,
                beacon: if fields.is_null("beacon") { None } else { Some(fields.bytes("beacon")?) },
                order: order.as_chunks().0.iter().copied().map(u32::from_be_bytes).collect(),
                trust: fields.text("trust")?.to_owned(),
            })
        };
        let (frozen, drawn) = match fields.text("stage")? {
            "COMMITTED" => (None, None),
            "FROZEN" => (Some(frozen(&fields)?), None),
            "DRAWN" => (Some(frozen(&fields)?), Some(drawn(&fields)?)),
            other => {
                return Err(wrong("stage", format!("expected COMMITTED, FROZEN or DRAWN, found {other:?}")));
            }
        };
        Ok(Self {
            concert: ConcertId(fields.number("concertId")?),
            no: fields.small("no")?,
            commitment: fields.bytes("commitment")?,
            committed_at: fields.time("committedAt")?,
            frozen,
            drawn,
        })
    }

    /// What the engine verifies; `None` before the draw.
    pub(super) fn complete(&self) -> Option<DrawRecord> {
        let (frozen, drawn) = self.frozen.as_ref().zip(self.drawn.as_ref())?;
        let beacon = frozen.round.zip(drawn.beacon);
        Some(DrawRecord {
            concert: self.concert,
            commitment: self.commitment,
            leaves: frozen.leaves.clone(),
            root: frozen.root,
            root_published_at: frozen.published_at,
            beacon: beacon.map(|((round, due), value)| (Beacon { round, value }, due)),
            seed: drawn.seed,
            order: drawn.order.clone(),
        })
    }
}

/// An entrant's own entry.
pub(super) struct Entry {
    pub concert: ConcertId,
    pub no: u32,
    pub user: UserId,
    pub turn: Turn,
    pub salt: Salt,
    pub leaf: Digest,
    pub index: u32,
    pub root: Digest,
    pub proof: Vec<Digest>,
    /// What the server said the place is; `None` before the draw.
    pub place: Option<u32>,
}

impl Entry {
    pub(super) fn read(json: &[u8]) -> Result<Self, Wrong> {
        let fields = Fields::read(json, "the entry")?;
        let Some(Value::Array(proof)) = fields.0.get("proof") else {
            return Err(wrong("proof", "expected a list of digests"));
        };
        let proof = proof.iter().map(|digest| digest.as_str().and_then(unhex));
        let proof: Option<Vec<Digest>> = proof.collect();
        Ok(Self {
            concert: ConcertId(fields.number("concertId")?),
            no: fields.small("no")?,
            user: UserId(fields.number("userId")?),
            turn: Turn(fields.small("turn")?),
            salt: fields.bytes("salt")?,
            leaf: fields.bytes("leaf")?,
            index: fields.small("index")?,
            root: fields.bytes("root")?,
            proof: proof.ok_or_else(|| wrong("proof", "expected digests of 64 hex digits each"))?,
            place: if fields.is_null("place") { None } else { Some(fields.small("place")?) },
        })
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn read(json: &[u8], what: &'static str) -> Result<Self, Wrong> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(wrong(what, "expected a JSON object")),
            Err(error) => Err(wrong(what, format!("is not JSON: {error}"))),
        }
    }

    fn is_null(&self, field: &str) -> bool {
        self.0.get(field).is_none_or(Value::is_null)
    }

    fn text(&self, field: &'static str) -> Result<&str, Wrong> {
        match self.0.get(field) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(field, "expected a string")),
            None => Err(wrong(field, "is missing")),
        }
    }

    fn number(&self, field: &'static str) -> Result<u64, Wrong> {
        match self.0.get(field) {
            Some(value) => value.as_u64().ok_or_else(|| wrong(field, "expected a whole number")),
            None => Err(wrong(field, "is missing")),
        }
    }

    fn small(&self, field: &'static str) -> Result<u32, Wrong> {
        u32::try_from(self.number(field)?).map_err(|_| wrong(field, "expected a number of 32 bits"))
    }

    fn bytes<const N: usize>(&self, field: &'static str) -> Result<[u8; N], Wrong> {
        unhex(self.text(field)?).ok_or_else(|| wrong(field, format!("expected {} hex digits", 2 * N)))
    }

    fn time(&self, field: &'static str) -> Result<Time, Wrong> {
        instant(self.text(field)?).ok_or_else(|| wrong(field, "expected an instant as RFC 3339"))
    }

    fn packed(&self, field: &'static str, size: usize) -> Result<Vec<u8>, Wrong> {
        let bytes = STANDARD.decode(self.text(field)?);
        let bytes = bytes.map_err(|error| wrong(field, format!("is not Base64: {error}")))?;
        if bytes.len().is_multiple_of(size) {
            Ok(bytes)
        } else {
            Err(wrong(field, format!("has {} bytes, which {size} do not divide", bytes.len())))
        }
    }

    fn round(&self) -> Result<Option<(u64, Time)>, Wrong> {
        match self.0.get("round") {
            None => Err(wrong("round", "is missing")),
            Some(Value::Null) => Ok(None),
            Some(Value::Object(round)) => {
                let number = round.get("round").and_then(Value::as_u64);
                let due = round.get("dueAt").and_then(Value::as_str).and_then(instant);
                let number = number.ok_or_else(|| wrong("round.round", "expected a whole number"))?;
                let due = due.ok_or_else(|| wrong("round.dueAt", "expected an instant as RFC 3339"))?;
                Ok(Some((number, due)))
            }
            Some(_) => Err(wrong("round", "expected an object or null")),
        }
    }
}

fn instant(text: &str) -> Option<Time> {
    text.parse::<Timestamp>().ok().map(|instant| Time(instant.as_microsecond()))
}
