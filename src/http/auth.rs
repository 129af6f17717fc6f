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
    /// For how long the token is accepted from now on; a year at most.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let seconds = self.expires_at.saturating_add(LEEWAY.as_secs()).saturating_sub(unix_seconds());
        Duration::from_secs(seconds).min(Duration::from_secs(365 * 24 * 3_600))
    }

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
    /// Only tokens that were signed for us come in, so the hash need not be a slow one; it is seeded all the same.
    checked: DashMap<Box<str>, Identity, foldhash::quality::RandomState>,
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
        Ok(Self(Arc::new(Inner {
            decoding,
            encoding,
            validation,
            issuer,
            checked: DashMap::default(),
            local,
        })))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "a secret of the tests, 32 bytes or more";

    fn tokens() -> Tokens {
        Tokens::new(&TokenKey::Secret(SECRET.to_owned()), None).unwrap()
    }

    fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn later() -> u64 {
        unix_seconds() + 60
    }

    #[test]
    fn an_issued_token_says_who_it_is_for() {
        let tokens = tokens();
        let ttl = Duration::from_secs(60);
        let (token, exp) = tokens.issue(7, Role::Payment, Some("BASIC".to_owned()), ttl).unwrap();
        let identity = tokens.check(&token).unwrap();
        let expected =
            Identity { user: UserId(7), role: Role::Payment, tier: Some("BASIC".into()), expires_at: exp };
        assert_eq!(identity, expected);
        assert_eq!(identity.caller(), Caller { user: UserId(7), authority: Authority::Any });
        assert_eq!(tokens.check(&token).unwrap(), expected, "from the cache");
        for user in [0, PUBLIC_ID_MAX + 1] {
            assert!(matches!(tokens.issue(user, Role::User, None, ttl), Err(TokenError::UserId(_))));
        }
    }

    #[test]
    fn the_subject_is_a_number_or_a_number_in_a_string() {
        let tokens = tokens();
        for sub in [json!(7), json!("7")] {
            let token =
                signed(Algorithm::HS256, SECRET, &json!({"sub": sub, "role": "USER", "exp": later()}));
            assert_eq!(tokens.check(&token).unwrap().user, UserId(7), "{sub}");
        }
        for sub in [json!(0), json!("x"), json!(-1), json!(1.5), json!(PUBLIC_ID_MAX + 1), json!(null)] {
            let token =
                signed(Algorithm::HS256, SECRET, &json!({"sub": sub, "role": "USER", "exp": later()}));
            assert!(tokens.check(&token).is_err(), "{sub}");
        }
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        let tokens = tokens();
        let good = json!({"sub": 7, "role": "USER", "exp": later()});
        let ended = json!({"sub": 7, "role": "USER", "exp": unix_seconds() - 60});
        let early = json!({"sub": 7, "role": "USER", "exp": later(), "nbf": later()});
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", "eyJzdWIiOjd9");
        let rows = [
            ("foreign", signed(Algorithm::HS256, "another secret, also long enough..", &good)),
            ("other algorithm", signed(Algorithm::HS512, SECRET, &good)),
            ("ended", signed(Algorithm::HS256, SECRET, &ended)),
            ("not yet", signed(Algorithm::HS256, SECRET, &early)),
            ("no exp", signed(Algorithm::HS256, SECRET, &json!({"sub": 7, "role": "USER"}))),
            ("no sub", signed(Algorithm::HS256, SECRET, &json!({"role": "USER", "exp": later()}))),
            ("no role", signed(Algorithm::HS256, SECRET, &json!({"sub": 7, "exp": later()}))),
            (
                "other role",
                signed(Algorithm::HS256, SECRET, &json!({"sub": 7, "role": "GOD", "exp": later()})),
            ),
            ("unsigned", unsigned),
            ("no token", "x".to_owned()),
            ("long", "x".repeat(TOKEN_BYTES + 1)),
        ];
        for (name, token) in rows {
            let refused =
                matches!(tokens.check(&token), Err(Problem::Unauthenticated { presented: true, .. }));
            assert!(refused, "{name}");
        }
        assert!(tokens.check(&signed(Algorithm::HS256, SECRET, &good)).is_ok());
    }

    #[test]
    fn a_remembered_token_still_ends() {
        let tokens = tokens();
        let (token, _) = tokens.issue(7, Role::User, None, Duration::from_secs(60)).unwrap();
        tokens.check(&token).unwrap();
        tokens.0.checked.get_mut(token.as_str()).unwrap().expires_at = unix_seconds();
        // Checked again, because the memory of it has ended; the token itself has not.
        assert!(tokens.check(&token).is_ok());
        assert!(tokens.0.checked.get(token.as_str()).unwrap().expires_at > unix_seconds());
    }

    #[test]
    fn an_issuer_is_asked_for_when_it_is_set() {
        let key = TokenKey::Secret(SECRET.to_owned());
        let tokens = Tokens::new(&key, Some("us".to_owned())).unwrap();
        let (ours, _) = tokens.issue(7, Role::User, None, Duration::from_secs(60)).unwrap();
        assert!(tokens.check(&ours).is_ok());
        for claims in [
            json!({"sub": 7, "role": "USER", "exp": later()}),
            json!({"sub": 7, "role": "USER", "exp": later(), "iss": "them"}),
        ] {
            assert!(tokens.check(&signed(Algorithm::HS256, SECRET, &claims)).is_err(), "{claims}");
        }
    }

    #[test]
    fn a_public_key_checks_and_does_not_issue() {
        let tokens = Tokens::new(&TokenKey::PublicKeyPem(PUBLIC.to_owned()), None).unwrap();
        let claims = json!({"sub": "7", "role": "ADMIN", "exp": later()});
        let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        assert_eq!(tokens.check(&token).unwrap().role, Role::Admin);
        let forged = signed(Algorithm::HS256, PUBLIC, &claims);
        assert!(tokens.check(&forged).is_err(), "a public key is no secret");
        let issued = tokens.issue(7, Role::User, None, Duration::from_secs(60));
        assert!(matches!(issued, Err(TokenError::CannotIssue)));
    }

    #[test]
    fn the_local_admin_is_this_process_alone() {
        let (one, other) = (tokens(), tokens());
        assert_eq!(one.check(one.local_admin()).unwrap().role, Role::Admin);
        assert!(other.check(one.local_admin()).is_err());
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let new = |key| Tokens::new(&key, None).err();
        assert!(matches!(new(TokenKey::Secret("short".to_owned())), Some(TokenError::SecretShort(5))));
        assert!(matches!(new(TokenKey::PublicKeyPem("x".to_owned())), Some(TokenError::PublicKey(_))));
        assert!(new(TokenKey::Secret(BUILT_IN_SECRET.to_owned())).is_none());
    }

    #[test]
    fn what_everybody_knows_is_for_loopback() {
        let listen = |text: &str| vec!["127.0.0.1:1".parse().unwrap(), text.parse::<SocketAddr>().unwrap()];
        let (here, there) = (listen("[::1]:8081"), listen("0.0.0.0:8080"));
        let built_in = TokenKey::Secret(BUILT_IN_SECRET.to_owned());
        let own = TokenKey::Secret(SECRET.to_owned());
        let check = check_exposure;
        assert_eq!(check(&here, &built_in, true, Role::User), Ok(()));
        assert_eq!(check(&here, &built_in, false, Role::Payment), Ok(()));
        assert_eq!(check(&there, &own, false, Role::Payment), Ok(()));
        assert_eq!(check(&there, &own, true, Role::Payment), Err(Exposure::DevTokens(there[1])));
        assert_eq!(check(&there, &built_in, false, Role::Payment), Err(Exposure::BuiltInSecret(there[1])));
        assert_eq!(check(&here, &own, false, Role::User), Err(Exposure::UsersConfirm));
    }

    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
         MC4CAQAwBQYDK2VwBCIEIBAJlaFRFrNX9rZVKZ3DwbMsZ3hR83KdRgbRvT5PDSci\n\
         -----END PRIVATE KEY-----\n";

    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
         MCowBQYDK2VwAyEAklI0eoj+CVdYF47bVvgUv4GHACNhR6G0XTmn5/cu5yY=\n\
         -----END PUBLIC KEY-----\n";
}
