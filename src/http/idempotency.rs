//! `Idempotency-Key`: required of everything that reaches the ledger, so that a retry is never a second sale.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use engine::RequestKey;
use sha2::{Digest, Sha256};

use super::error::Problem;

const POINTER: &str = "/headers/Idempotency-Key";

/// Bytes a key may have.
const KEY_BYTES: usize = 255;

/// The client's key, reduced to what the engine remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub RequestKey);

impl IdempotencyKey {
    fn of(bytes: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in bytes {
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
        Self(RequestKey(u128::from_be_bytes(*first)))
    }

    /// Reads a client's key.
    ///
    /// # Errors
    /// `MALFORMED` at `pointer`.
    pub fn read(bytes: &[u8], pointer: &str) -> Result<Self, Problem> {
        if bytes.is_empty() || bytes.len() > KEY_BYTES || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(Problem::malformed(pointer, "The key is 1 to 255 visible ASCII characters."));
        }
        Ok(Self::of(&[bytes]))
    }

    /// The key of one part of a request that is several commands, the same for the same part on a retry.
    #[must_use]
    pub fn part(self, index: usize) -> RequestKey {
        Self::of(&[&self.0.0.to_be_bytes(), &index.to_be_bytes()]).0
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            let detail = "This needs exactly one Idempotency-Key header; a retry sends the same one again.";
            return Err(Problem::malformed(POINTER, detail));
        };
        Self::read(value.as_bytes(), POINTER)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn key(values: &[&[u8]]) -> Result<IdempotencyKey, Problem> {
        let mut request = Request::builder();
        for value in values {
            request = request.header("Idempotency-Key", *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        IdempotencyKey::from_request_parts(&mut parts, &()).await
    }

    #[tokio::test]
    async fn the_key_is_the_head_of_its_sha_256() {
        // printf abc | sha256sum
        let expected = RequestKey(0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        assert_eq!(key(&[b"abc"]).await, Ok(IdempotencyKey(expected)));
    }

    #[tokio::test]
    async fn only_one_key_of_visible_ascii_is_a_key() {
        let long = [b'a'; 255];
        assert!(key(&[&long]).await.is_ok());
        let longer = [b'a'; 256];
        let bad: [&[&[u8]]; 6] = [&[], &[b""], &[b"a b"], &["é".as_bytes()], &[&longer], &[b"a", b"b"]];
        for values in bad {
            match key(values).await {
                Err(Problem::Malformed { pointer, .. }) => assert_eq!(pointer, POINTER),
                other => panic!("{values:?} gave {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn parts_differ_from_each_other_and_repeat() {
        let whole = key(&[b"abc"]).await.unwrap();
        assert_eq!(whole.part(1), whole.part(1));
        assert_ne!(whole.part(0), whole.part(1));
        assert_ne!(whole.part(0), whole.0);
    }
}
