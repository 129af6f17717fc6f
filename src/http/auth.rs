//! Who asks: tokens, roles, and the refusals to start with secrets that everybody knows.
//!
//! A token is a JWT, HS256 with a shared secret or EdDSA with a public key, with `sub` (the user id), `role`, an
//! optional `tier` and `exp`. The algorithm is the server's choice, never the token's. A checked token is
//! remembered until it ends, so that a user's next click costs a map lookup instead of a signature.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use engine::ids::PUBLIC_ID_MAX;
use engine::{Authority, Caller, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::Problem;

/// The secret in the shipped configuration. Everybody knows it, so it only ever works on loopback.
pub const BUILT_IN_SECRET: &str = "hotseat built-in secret, for loopback only";

/// Clocks of issuer and server may differ by this much.
const LEEWAY: Duration = Duration::from_secs(5);

/// Checked tokens remembered. At the bound all are forgotten at once: each costs one signature check again.
const CHECKED_TOKENS: usize = 1 << 17;

/// Bytes of a token that are looked at. Longer ones are refused unread.
const TOKEN_BYTES: usize = 4_096;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    /// Buys for itself.
    User,
    /// Confirms and refunds for everybody.
    Payment,
    /// Runs the sale.
    Admin,
    /// Runs the servers.
    Ops,
}

/// A checked token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    pub role: Role,
    pub tier: Option<Arc<str>>,
    /// Seconds since the epoch; the token proves nothing from then on.
    pub expires_at: u64,
}

impl Identity {
    /// As the engine wants to know it.
    #[must_use]
    pub const fn caller(&self) -> Caller {
        let authority = match self.role {
            Role::User => Authority::Own,
            Role::Payment | Role::Admin | Role::Ops => Authority::Any,
        };
        Caller { user: self.user, authority }
    }
}

/// What tokens are checked with.
#[derive(Clone)]
pub enum TokenKey {
    /// HS256. The server can issue tokens itself.
    Secret(String),
    /// EdDSA, as PEM. Somebody else issues the tokens.
    PublicKeyPem(String),
}

/// Why there can be no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("auth.public_key is not a PEM-encoded Ed25519 public key: {0}")]
    PublicKey(jsonwebtoken::errors::Error),
    #[error("auth.secret needs at least 32 bytes, it has {0}")]
    SecretShort(usize),
    #[error("tokens are checked with a public key here, so this server cannot issue them")]
    CannotIssue,
    #[error("a user id is 1 to 2^53-1, not {0}")]
    UserId(u64),
    #[error("the token could not be signed: {0}")]
    Signing(jsonwebtoken::errors::Error),
}

/// Checks and, with a shared secret, issues tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    decoding: DecodingKey,
    encoding: Option<EncodingKey>,
    validation: Validation,
    issuer: Option<String>,
    checked: DashMap<Box<str>, Identity>,
    local: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(deserialize_with = "subject")]
    sub: u64,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
}

impl Tokens {
    /// # Errors
    /// The key is no key.
    pub fn new(key: &TokenKey, issuer: Option<String>) -> Result<Self, TokenError> {
        let (algorithm, decoding, encoding) = match key {
            TokenKey::Secret(secret) if secret.len() < 32 => {
                return Err(TokenError::SecretShort(secret.len()));
            }
            TokenKey::Secret(secret) => {
                let bytes = secret.as_bytes();
                (Algorithm::HS256, DecodingKey::from_secret(bytes), Some(EncodingKey::from_secret(bytes)))
            }
            TokenKey::PublicKeyPem(pem) => {
                let key = DecodingKey::from_ed_pem(pem.as_bytes()).map_err(TokenError::PublicKey)?;
                (Algorithm::EdDSA, key, None)
            }
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        if let Some(issuer) = &issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let local = format!("local.{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        Ok(Self(Arc::new(Inner { decoding, encoding, validation, issuer, checked: DashMap::new(), local })))
    }

    /// A random token of role ADMIN that this process alone accepts, for `DATA/run.json`. It ends with the
    /// process, and it works whatever key the other tokens are checked with.
    #[must_use]
    pub fn local_admin(&self) -> &str {
        &self.0.local
    }

    /// Signs a token and says when it ends, in seconds since the epoch.
    ///
    /// # Errors
    /// The server has a public key only, or the user id is none.
    pub fn issue(
        &self,
        user: u64,
        role: Role,
        tier: Option<String>,
        ttl: Duration,
    ) -> Result<(String, u64), TokenError> {
        let encoding = self.0.encoding.as_ref().ok_or(TokenError::CannotIssue)?;
        if user == 0 || user > PUBLIC_ID_MAX {
            return Err(TokenError::UserId(user));
        }
        let exp = unix_seconds() + ttl.as_secs();
        let claims = Claims { sub: user, role, tier, exp, iss: self.0.issuer.clone() };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, encoding)
            .map_err(TokenError::Signing)?;
        Ok((token, exp))
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`: not ours, ended, or without what a token must say.
    pub fn check(&self, token: &str) -> Result<Identity, Problem> {
        let now = unix_seconds();
        if let Some(known) = self.0.checked.get(token) {
            let identity = known.clone();
            drop(known);
            if identity.expires_at > now {
                return Ok(identity);
            }
            self.0.checked.remove(token);
        }
        let identity = self.verify(token)?;
        // Within the leeway a token is accepted but not remembered.
        if identity.expires_at > now {
            if self.0.checked.len() >= CHECKED_TOKENS {
                self.0.checked.clear();
            }
            self.0.checked.insert(token.into(), identity.clone());
        }
        Ok(identity)
    }

    fn verify(&self, token: &str) -> Result<Identity, Problem> {
        let refused = |why| Problem::Unauthenticated { presented: true, why };
        if token.len() > TOKEN_BYTES {
            return Err(refused("The token is longer than 4096 bytes."));
        }
        if same_secret(token.as_bytes(), self.0.local.as_bytes()) {
            let user = UserId(PUBLIC_ID_MAX);
            return Ok(Identity { user, role: Role::Admin, tier: None, expires_at: u64::MAX });
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation)
            .map_err(|error| refused(reason(error.kind())))?
            .claims;
        if claims.sub == 0 || claims.sub > PUBLIC_ID_MAX {
            return Err(refused("The token's sub is no user id, 1 to 2^53-1."));
        }
        Ok(Identity {
            user: UserId(claims.sub),
            role: claims.role,
            tier: claims.tier.map(Arc::from),
            expires_at: claims.exp,
        })
    }
}

/// Compares without telling by its time how much was right. The length is no secret.
fn same_secret(given: &[u8], secret: &[u8]) -> bool {
    given.len() == secret.len() && given.iter().zip(secret).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

const fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired.",
        ErrorKind::ImmatureSignature => "The token is not valid yet.",
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
            "The token was not issued for this server."
        }
        ErrorKind::InvalidIssuer => "The token's issuer is not trusted here.",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
            "The token needs sub (a user id), role (USER, PAYMENT, ADMIN or OPS) and exp."
        }
        _ => "The token cannot be read.",
    }
}

/// A user id, as a number or in a string.
fn subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Subject<'a> {
        Number(u64),
        Text(std::borrow::Cow<'a, str>),
    }
    match Subject::deserialize(deserializer)? {
        Subject::Number(number) => Ok(number),
        Subject::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What only a loopback listener may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposure {
    #[error(
        "auth.dev_tokens hands a token of any role to whoever asks, and {0} is not a loopback address: \
         listen on 127.0.0.1, or set auth.dev_tokens = false"
    )]
    DevTokens(SocketAddr),
    #[error(
        "auth.secret is the one built in, which everybody knows, and {0} is not a loopback address: \
         listen on 127.0.0.1, or set auth.secret"
    )]
    BuiltInSecret(SocketAddr),
    #[error(
        "sales.confirm_role = USER lets buyers confirm without paying, which only auth.dev_tokens = true may allow"
    )]
    UsersConfirm,
}

/// Refuses to be open to the world with a secret that the world knows.
///
/// # Errors
/// The first exposure.
pub fn check_exposure(
    listeners: &[SocketAddr],
    key: &TokenKey,
    dev_tokens: bool,
    confirm_role: Role,
) -> Result<(), Exposure> {
    let open = listeners.iter().copied().find(|address| !address.ip().is_loopback());
    let built_in = matches!(key, TokenKey::Secret(secret) if secret == BUILT_IN_SECRET);
    match open {
        Some(address) if dev_tokens => Err(Exposure::DevTokens(address)),
        Some(address) if built_in => Err(Exposure::BuiltInSecret(address)),
        _ if confirm_role == Role::User && !dev_tokens => Err(Exposure::UsersConfirm),
        _ => Ok(()),
    }
}
