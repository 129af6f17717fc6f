//! Messages as bytes: `hs`, the version of the envelope, and the value in the format of bincode 1. Nothing that
//! arrives makes this panic or take more memory than [`BYTES_MAX`].

use bincode::config::{Config, legacy};
use bincode::serde::{decode_from_slice, encode_to_vec};
use ractor::BytesConvertable;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: [u8; 2] = *b"hs";

/// Of the envelope; another one cannot be read at all.
const VERSION: u16 = 1;

/// The largest message: the moves of a node that had every shard there can be, with room to spare.
pub const BYTES_MAX: usize = 1024 * 1024;

const HEAD: usize = MAGIC.len() + size_of::<u16>();

/// Why bytes are no message, or a message no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a message of {0} bytes, of at most {BYTES_MAX}")]
    TooLarge(usize),
    #[error("not a message of hotseat")]
    NotOurs,
    #[error("a message in version {0}, and this node reads {VERSION}: upgrade the older one of the two")]
    Version(u16),
    #[error("a message that makes no sense: {0}")]
    Malformed(String),
}

fn config() -> impl Config {
    legacy().with_limit::<BYTES_MAX>()
}

pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let body = encode_to_vec(value, config()).map_err(|error| CodecError::Malformed(error.to_string()))?;
    let length = HEAD + body.len();
    if length > BYTES_MAX {
        return Err(CodecError::TooLarge(length));
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > BYTES_MAX {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    let Some((head, body)) = bytes.split_at_checked(HEAD) else { return Err(CodecError::NotOurs) };
    if head[..MAGIC.len()] != MAGIC {
        return Err(CodecError::NotOurs);
    }
    let version = u16::from_le_bytes([head[2], head[3]]);
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let (value, read) =
        decode_from_slice(body, config()).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read < body.len() {
        return Err(CodecError::Malformed(format!("{} bytes behind its end", body.len() - read)));
    }
    Ok(value)
}

/// A message on its way through ractor, whose own conversions may only succeed or panic.
#[derive(Debug)]
pub struct Wire<T>(pub Result<T, CodecError>);

impl<T: Serialize + DeserializeOwned> BytesConvertable for Wire<T> {
    /// What cannot be written arrives as what cannot be read.
    fn into_bytes(self) -> Vec<u8> {
        let bytes = self.0.and_then(|value| encode(&value));
        bytes.unwrap_or_else(|error| {
            tracing::error!(%error, "a message to a peer could not be written");
            Vec::new()
        })
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(decode(&bytes))
    }
}

#[cfg(test)]
mod tests;
