//! From bytes to typed input. What cannot be read is `MALFORMED` with a pointer to the place.

use std::sync::Arc;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use engine::ids::PUBLIC_ID_MAX;
use engine::{ConcertId, ReservationId};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::auth::{Identity, Role};
use super::error::Problem;
use super::wire::Object;
use super::{BODY_BYTES, IMPORT_BODY_BYTES, Shared};

impl Identity {
    /// Who asks, by the token in the headers.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`.
    pub(crate) fn of(headers: &HeaderMap, shared: &Shared) -> Result<Self, Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            let why = "Send a token as `Authorization: Bearer TOKEN`.";
            return Err(Problem::Unauthenticated { presented: false, why });
        };
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
        });
        match token {
            Some(token) if !token.is_empty() => shared.edge.tokens.check(token),
            _ => {
                let why = "The Authorization header is not `Bearer TOKEN`.";
                Err(Problem::Unauthenticated { presented: true, why })
            }
        }
    }
}

impl FromRequestParts<Arc<Shared>> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        Self::of(&parts.headers, shared)
    }
}

/// Somebody who runs the sale: role ADMIN or OPS.
pub struct Operator(pub Identity);

impl FromRequestParts<Arc<Shared>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let identity = Identity::from_request_parts(parts, shared).await?;
        match identity.role {
            Role::Admin | Role::Ops => Ok(Self(identity)),
            Role::User | Role::Payment => Err(Problem::Forbidden("This needs the role ADMIN or OPS.")),
        }
    }
}

/// `{concertId}` of the path.
pub struct ConcertPath(pub ConcertId);

impl<S: Send + Sync> FromRequestParts<S> for ConcertPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = path_params(parts, state).await?;
        Ok(Self(ConcertId(public_id(param(&params, "concertId"), "/path/concertId")?)))
    }
}

/// `{reservationId}` of the path.
pub struct ReservationPath(pub ReservationId);

impl<S: Send + Sync> FromRequestParts<S> for ReservationPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = path_params(parts, state).await?;
        reservation_id(param(&params, "reservationId"), "/path/reservationId").map(Self)
    }
}

/// `{node}` of the path: a node's name.
pub struct NodePath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NodePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = path_params(parts, state).await?;
        Ok(Self(param(&params, "node").to_owned()))
    }
}

/// `{shard}` of the path, as it is written. Whether there is such a shard is another question.
pub struct ShardPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ShardPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = path_params(parts, state).await?;
        Ok(Self(param(&params, "shard").to_owned()))
    }
}

/// `{optionId}` of the path, as a number in range. Whether there is such an option is another question.
pub async fn option_number<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<u64, Problem> {
    let params = path_params(parts, state).await?;
    public_id(param(&params, "optionId"), "/path/optionId")
}

async fn path_params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::malformed("/path", "The path is not percent-encoded UTF-8."))
}

fn param<'a>(params: &'a RawPathParams, name: &str) -> &'a str {
    params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

/// Reads an id of the public range.
///
/// # Errors
/// `MALFORMED` at `pointer`.
pub fn public_id(text: &str, pointer: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number
        .filter(|id| (1..=PUBLIC_ID_MAX).contains(id))
        .ok_or_else(|| Problem::malformed(pointer, "An id is an integer from 1 to 9007199254740991."))
}

/// Reads a reservation's id.
///
/// # Errors
/// `MALFORMED` at `pointer`.
pub fn reservation_id(text: &str, pointer: &str) -> Result<ReservationId, Problem> {
    let hyphenated = text.len() == 36;
    match uuid::Uuid::try_parse(text) {
        Ok(uuid) if hyphenated => Ok(ReservationId(uuid.as_u128())),
        _ => Err(Problem::malformed(pointer, "A reservation's id is a UUID in its hyphenated form.")),
    }
}

/// The query string, all of it: an unknown parameter is an error, not a silence.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> Query<T> {
    /// Reads the query of this URI.
    ///
    /// # Errors
    /// `MALFORMED`.
    pub fn read(uri: &Uri) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| Problem::malformed("/query", root_cause(&rejection)))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.uri)
    }
}

/// How many items of a list: 1 to 200, 50 when the client does not say.
///
/// # Errors
/// `MALFORMED` at `/query/limit`.
pub fn page_limit(text: Option<&str>) -> Result<u32, Problem> {
    let limit = text.map_or(Ok(50), str::parse);
    limit
        .ok()
        .filter(|limit| (1..=200).contains(limit))
        .ok_or_else(|| Problem::malformed("/query/limit", "A limit is an integer from 1 to 200."))
}

/// A JSON body of at most [`BODY_BYTES`].
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> Json<T> {
    /// Reads a body that was announced by these headers.
    ///
    /// # Errors
    /// `MALFORMED` or `TOO_LARGE`.
    pub async fn read<B: Readable>(headers: &HeaderMap, body: B) -> Result<Self, Problem> {
        expect_json(headers)?;
        let bytes = read(headers, body, BODY_BYTES).await?;
        from_json(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body).await
    }
}

/// A JSON body of at most [`IMPORT_BODY_BYTES`], for whole seating plans. Unparsed: that is work for another thread.
pub struct LargeJson(pub Bytes);

impl<S: Sync> FromRequest<S> for LargeJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        expect_json(&parts.headers)?;
        read(&parts.headers, body, IMPORT_BODY_BYTES).await.map(Self)
    }
}

/// A JSON body that may be left out.
pub struct OptionalJson<T>(pub Option<T>);

impl<T: DeserializeOwned> OptionalJson<T> {
    /// Reads a body that may be there.
    ///
    /// # Errors
    /// `MALFORMED` or `TOO_LARGE`.
    pub async fn read<B: Readable>(headers: &HeaderMap, body: B) -> Result<Self, Problem> {
        let bytes = read(headers, body, BODY_BYTES).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        expect_json(headers)?;
        from_json(&bytes).map(|body| Self(Some(body)))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body).await
    }
}

/// Refuses a body where the route takes none, so that nothing a client wrote is ignored.
pub struct NoBody;

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, BODY_BYTES).await?;
        // `{}` is what many clients send when they have nothing to say.
        if bytes.is_empty() || from_json::<Empty>(&bytes).is_ok() {
            Ok(Self)
        } else {
            Err(Problem::malformed("", "This route takes no body."))
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/json") {
        Ok(())
    } else {
        Err(Problem::malformed("/headers/Content-Type", "The body must be sent as application/json."))
    }
}

/// A body as it comes off the connection, with or without a router in between.
pub trait Readable: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin {}

impl<B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin> Readable for B {}

/// A click's body is one piece: it is taken as it is, without a copy.
async fn read<B: Readable>(headers: &HeaderMap, mut body: B, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Problem::TooLarge { limit });
    }
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    // A client that stops in the middle loses its connection: `watch` sees to it.
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame
            .map_err(|error| Problem::malformed("", format!("The body broke off: {}.", error.into())))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - first.len().max(all.len()) {
            return Err(Problem::TooLarge { limit });
        }
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Reads JSON; only a failure pays for knowing where.
///
/// # Errors
/// `MALFORMED` with the pointer to the place.
pub fn from_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map(|Object(value)| value).or_else(|_| {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let pointer = pointer(error.path());
            Problem::malformed(pointer, format!("{}.", error.into_inner()))
        })?;
        match deserializer.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(Problem::malformed("", format!("{error}."))),
        }
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{cause}.")
}

/// Whether the request came through a proxy, or claims to.
#[must_use]
pub fn came_through_proxy(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether and where it fails matters")]
    struct Sample {
        seats: Vec<u32>,
        #[serde(default)]
        deep: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether and where it fails matters")]
    struct Inner {
        party: u32,
    }

    fn pointer_of(bytes: &[u8]) -> String {
        match from_json::<Sample>(bytes) {
            Err(Problem::Malformed { pointer, .. }) => pointer,
            other => panic!("{} gave {other:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn a_json_error_points_to_its_place() {
        assert!(from_json::<Sample>(br#"{"seats":[1],"deep":{"party":2}}"#).is_ok());
        let deep = format!(r#"{{"seats":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        let deeper = "[".repeat(100_000);
        let rows: [(&[u8], &str); 10] = [
            (br#"{"seats":["x"]}"#, "/seats/0"),
            (br#"{"seats":[1],"deep":{"party":-1}}"#, "/deep/party"),
            (br#"{"seats":[1],"chair":1}"#, "/chair"),
            (br#"{}"#, ""),
            (br#"[]"#, ""),
            (br#"[[1]]"#, ""),
            (br#"{"seats":[1]} trailing"#, ""),
            (b"{\"seats\":[1],\"\xff\":1}", ""),
            (deep.as_bytes(), "/seats/0"),
            (deeper.as_bytes(), ""),
        ];
        for (bytes, expected) in rows {
            assert_eq!(
                pointer_of(bytes),
                expected,
                "{}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
            );
        }
    }

    #[test]
    fn ids_are_one_to_two_to_the_53_minus_one() {
        assert_eq!(public_id("9007199254740991", "/x"), Ok(PUBLIC_ID_MAX));
        assert_eq!(public_id("1", "/x"), Ok(1));
        for text in ["", "0", "-1", "+1", "1.0", "9007199254740992", "99999999999999999999999", "x", "１"] {
            assert!(public_id(text, "/x").is_err(), "{text}");
        }
    }

    #[test]
    fn a_reservation_id_is_a_hyphenated_uuid() {
        let text = "01890000-0000-7000-8000-000000000007";
        assert_eq!(reservation_id(text, "/x").unwrap().to_string(), text);
        for text in ["", "7", "01890000000070008000000000000007", "01890000-0000-7000-8000-00000000000g"] {
            assert!(reservation_id(text, "/x").is_err(), "{text}");
        }
    }
}
