//! Who is measured: its URL, whether it is what it should be, and who may ask it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::sleep;

use crate::http::{Answer, Connection, Request};
use crate::report::model;
use crate::wire::{Concert, ConcertOption, Document, Page, Token};

/// A user id of its own for the payment service, above those of the users.
const PAYMENT_USER: u64 = 1 << 52;
/// Runs whose users are all different; with 32 bits for the users of each, ids stay below the payment service's.
const PEOPLES: u64 = 1 << 20;
/// How long a token that we sign ourselves lives.
const TOKEN_SECONDS: u64 = 3_600;
const PAUSE: Duration = Duration::from_millis(100);

/// `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: Arc<str>,
}

/// Where tokens come from.
#[derive(Clone)]
pub enum Tokens {
    /// The server hands them to whoever asks, as one for development does.
    Dev,
    /// We sign them with the server's own secret.
    Signed(Arc<EncodingKey>),
}

/// A server that let us in, and what we may sell there.
#[derive(Clone)]
pub struct Introduced {
    pub target: Target,
    pub tokens: Tokens,
    pub concert: u64,
    pub option: u64,
    pub seat_count: u32,
    pub payment_token: Arc<str>,
    /// `hotseat` and its version.
    pub name: String,
    /// Of this run, and of no other.
    people: u64,
}

#[derive(Serialize)]
struct Claims {
    sub: u64,
    role: &'static str,
    exp: u64,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err("TLS is not spoken here; use the server's plain listener".to_owned());
        }
        let authority = text.strip_prefix("http://").ok_or("expected http://HOST:PORT")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, "80"),
        };
        let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
        match port.parse::<u16>() {
            Ok(port) if is_host => Ok(Self { authority: format!("{host}:{port}").into() }),
            _ => Err("expected http://HOST:PORT".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Target {
    /// `HOST:PORT`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Makes sure that this is hotseat, that it lets us in, and that the option exists; the largest on sale when none
    /// is named. Waits so long for a server that is not there yet.
    ///
    /// # Errors
    /// Says what is wrong, in words for whoever typed the command.
    pub async fn introduce(
        &self,
        tokens: Tokens,
        option: Option<u64>,
        wait: Duration,
    ) -> anyhow::Result<Introduced> {
        let mut connection = Connection::new(self.clone());
        let name = self.name(&mut connection, wait).await?;
        let (concert, option) = choose(&mut connection, option).await?;
        let payment_token = tokens.of(&mut connection, PAYMENT_USER, "PAYMENT").await?;
        // A token that nobody takes is better known now.
        let mine = Request { token: Some(&payment_token), ..Request::get("/api/v1/reservations?limit=1") };
        let answer = connection.call(&mine).await?;
        if answer.status == 401 {
            bail!(
                "{self} does not take our tokens ({}): is --secret the auth.secret of this server?",
                String::from_utf8_lossy(&answer.body)
            );
        }
        let ConcertOption { option_id: option, seat_count } = option;
        let people = new_people();
        let target = self.clone();
        Ok(Introduced { target, tokens, concert, option, seat_count, payment_token, name, people })
    }

    async fn name(&self, connection: &mut Connection, wait: Duration) -> anyhow::Result<String> {
        let started = Instant::now();
        let answer = loop {
            match connection.call(&Request::get("/api/v1/openapi.json")).await {
                Ok(answer) if answer.status != 503 => break answer,
                Ok(_) | Err(_) if started.elapsed() < wait => sleep(PAUSE).await,
                Ok(_) => bail!("{self} is not ready (503); try --wait 30s"),
                Err(error) => return Err(error),
            }
        };
        let document = answer.json::<Document>().ok().filter(|_| answer.is_success());
        match document {
            Some(document) => Ok(format!("{} {}", document.info.title, document.info.version)),
            None => bail!(
                "{self} answers, but does not look like hotseat: {} for /api/v1/openapi.json",
                answer.status
            ),
        }
    }
}

/// Others every 64 ms, for 18 hours.
fn new_people() -> u64 {
    jiff::Timestamp::now().as_millisecond().cast_unsigned() >> 6
}

impl Tokens {
    /// Those that `secret` signs, or dev tokens.
    pub fn new(secret: Option<&str>) -> Self {
        match secret {
            Some(secret) => Self::Signed(Arc::new(EncodingKey::from_secret(secret.as_bytes()))),
            None => Self::Dev,
        }
    }

    /// A token of a user.
    ///
    /// # Errors
    /// The server gives none.
    pub async fn of(
        &self,
        connection: &mut Connection,
        user: u64,
        role: &'static str,
    ) -> anyhow::Result<Arc<str>> {
        match self {
            Self::Signed(key) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
                let claims = Claims { sub: user, role, exp: now + TOKEN_SECONDS };
                Ok(jsonwebtoken::encode(&Header::default(), &claims, key)?.into())
            }
            Self::Dev => {
                let body = json!({"userId": user, "role": role}).to_string();
                let answer = connection.call(&Request::post("/api/v1/dev/token", None, &body)).await?;
                if !answer.is_success() {
                    bail!(
                        "the server gives no dev tokens ({}); start it with `hotseat serve --demo`, or pass its \
                         auth.secret as --secret",
                        answer.status
                    );
                }
                Ok(answer.json::<Token>()?.token.into())
            }
        }
    }
}

impl Introduced {
    /// The id of a user whom nobody has met before: the limits of earlier runs are other people's. What users want comes
    /// from the seed and their number, not from their ids.
    pub fn user(&self, seed: u64, number: u64) -> u64 {
        (self.people.wrapping_add(seed) % PEOPLES) << 32 | (number + 1) & u64::from(u32::MAX)
    }

    /// For the report.
    pub fn described(&self) -> model::Target {
        let facts = [("option".to_owned(), format!("{} with {} seats", self.option, self.seat_count))];
        model::Target { name: self.name.clone(), url: self.target.to_string(), facts: BTreeMap::from(facts) }
    }
}

/// The option of that number, or the largest on sale, and its concert.
async fn choose(connection: &mut Connection, wanted: Option<u64>) -> anyhow::Result<(u64, ConcertOption)> {
    let mut largest: Option<(u64, ConcertOption)> = None;
    for concert in list::<Concert>(connection, "/api/v1/concerts").await? {
        let path = format!("/api/v1/concerts/{}/options", concert.concert_id);
        for option in list::<ConcertOption>(connection, &path).await? {
            if wanted == Some(option.option_id) {
                return Ok((concert.concert_id, option));
            }
            if largest.as_ref().is_none_or(|(_, known)| known.seat_count < option.seat_count) {
                largest = Some((concert.concert_id, option));
            }
        }
    }
    match (wanted, largest) {
        (Some(option), _) => bail!("there is no option {option}"),
        (None, Some(largest)) => Ok(largest),
        (None, None) => bail!("nothing is on sale; import a concert, or `hotseat serve --demo`"),
    }
}

/// All pages of a list.
async fn list<T: DeserializeOwned>(connection: &mut Connection, path: &str) -> anyhow::Result<Vec<T>> {
    let mut items = Vec::new();
    let mut cursor = None;
    loop {
        let page_path = cursor.map_or(path.to_owned(), |cursor: String| format!("{path}?cursor={cursor}"));
        let answer: Answer = connection.call(&Request::get(&page_path)).await?;
        if !answer.is_success() {
            bail!("{path} was answered with {}: this does not look like hotseat", answer.status);
        }
        let page: Page<T> = answer.json().context("this does not look like hotseat")?;
        items.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_http_root() {
        let display = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(display("http://127.0.0.1:8080"), Ok("http://127.0.0.1:8080".to_owned()));
        assert_eq!(display("http://localhost/"), Ok("http://localhost:80".to_owned()));
        assert_eq!(display("http://[::1]:9"), Ok("http://[::1]:9".to_owned()));
        assert_eq!(display("http://[::1]"), Ok("http://[::1]:80".to_owned()));
        for text in
            ["https://127.0.0.1", "127.0.0.1:8080", "http://a/b", "ftp://a", "", "http://", "http://a:b"]
        {
            assert!(display(text).is_err(), "{text}");
        }
    }
}
