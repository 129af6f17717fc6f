//! The JSON that every idea is behind: hotseat's own routes and bodies, as far as a sale needs them.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{CANCELLED, CONFIRMED, HOLD, Refusal, Reservation, Seats};

const SOFT_LOCK: SignedDuration = SignedDuration::from_secs(30);
const SEATS_PER_COMMAND_MAX: usize = 8;

struct Front<S> {
    name: &'static str,
    seat_count: u32,
    seller: S,
}

type Shared<S> = State<Arc<Front<S>>>;

/// Until it is killed.
pub async fn serve<S: Seats>(
    listener: TcpListener,
    name: &'static str,
    seat_count: u32,
    seller: S,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/api/v1/openapi.json", get(openapi::<S>))
        .route("/api/v1/dev/token", post(token))
        .route("/api/v1/concerts", get(concerts))
        .route("/api/v1/concerts/1/options", get(options::<S>))
        .route("/api/v1/options/1/seats", get(map::<S>))
        .route("/api/v1/options/1/selections", post(select::<S>).delete(release::<S>))
        .route("/api/v1/options/1/holds", post(hold::<S>))
        .route("/api/v1/reservations/{id}", get(reservation::<S>))
        .route("/api/v1/reservations/{id}/confirm", post(confirm::<S>))
        .route("/api/v1/reservations/{id}/cancel", post(cancel::<S>))
        .with_state(Arc::new(Front { name, seat_count, seller }));
    let listener = listener.tap_io(|stream| {
        // It is slower without, and no more than that.
        let _slower = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// The token is the user id: there is nothing to check, which no real server could afford.
struct User(i64);

impl<T: Send + Sync> FromRequestParts<T> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &T) -> Result<Self, Refusal> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let user = value.and_then(|value| value.strip_prefix("Bearer ")?.parse().ok());
        user.map(Self).ok_or(Refusal::Unauthenticated)
    }
}

#[derive(Deserialize)]
struct Choice {
    seats: Vec<i32>,
}

impl Choice {
    /// Ascending: who locks several rows does so in one order.
    fn check(mut self, seat_count: u32) -> Result<Vec<i32>, Refusal> {
        self.seats.sort_unstable();
        let in_plan = |seat: &i32| u32::try_from(*seat).is_ok_and(|seat| seat < seat_count);
        let each_once = self.seats.windows(2).all(|pair| pair[0] != pair[1]);
        let few = (1..=SEATS_PER_COMMAND_MAX).contains(&self.seats.len());
        (few && each_once && self.seats.iter().all(in_plan))
            .then_some(self.seats)
            .ok_or(Refusal::SeatsInvalid)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Selection {
    option_id: u32,
    seats: Vec<Seat>,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Release {
    option_id: u32,
    released: Vec<Seat>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    reservation_id: Uuid,
    status: &'static str,
    concert_id: u32,
    option_id: u32,
    user_id: i64,
    seats: Vec<Seat>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seat {
    seat_no: i32,
    label: Label,
}

/// Of a hall without rows: `S-7`.
struct Label(i32);

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "S-{}", self.0)
    }
}

impl Serialize for Label {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.collect_str(self)
    }
}

fn labelled(seats: Vec<i32>) -> Vec<Seat> {
    seats.into_iter().map(|seat_no| Seat { seat_no, label: Label(seat_no) }).collect()
}

impl From<Reservation> for Receipt {
    fn from(reservation: Reservation) -> Self {
        let status = match reservation.status {
            HOLD => "HOLD",
            CONFIRMED => "CONFIRMED",
            CANCELLED => "CANCELLED",
            _ => "UNKNOWN",
        };
        let (reservation_id, user_id) = (reservation.id, reservation.user);
        Self {
            reservation_id,
            status,
            concert_id: 1,
            option_id: 1,
            user_id,
            seats: labelled(reservation.seats),
        }
    }
}

async fn select<S: Seats>(
    State(front): Shared<S>,
    User(user): User,
    Json(choice): Json<Choice>,
) -> Result<Response, Refusal> {
    let seats = choice.check(front.seat_count)?;
    // Before the lock is taken, so that nobody believes to have it for longer than it lasts.
    let expires_at = Timestamp::now() + SOFT_LOCK;
    front.seller.select(user, &seats).await?;
    let selection = Selection { option_id: 1, seats: labelled(seats), expires_at };
    Ok((StatusCode::CREATED, Json(selection)).into_response())
}

async fn release<S: Seats>(
    State(front): Shared<S>,
    User(user): User,
    Json(choice): Json<Choice>,
) -> Result<Json<Release>, Refusal> {
    let seats = choice.check(front.seat_count)?;
    let released = front.seller.release(user, &seats).await?;
    if released.len() < seats.len() {
        return Err(Refusal::NotSelected);
    }
    Ok(Json(Release { option_id: 1, released: labelled(released) }))
}

async fn hold<S: Seats>(
    State(front): Shared<S>,
    User(user): User,
    Json(choice): Json<Choice>,
) -> Result<Response, Refusal> {
    let seats = choice.check(front.seat_count)?;
    let reservation = front.seller.hold(user, &seats).await?;
    Ok((StatusCode::CREATED, Json(Receipt::from(reservation))).into_response())
}

/// Whoever asks may: the payment service confirms for everybody.
async fn confirm<S: Seats>(
    State(front): Shared<S>,
    User(_): User,
    Path(id): Path<Uuid>,
) -> Result<Json<Receipt>, Refusal> {
    Ok(Json(front.seller.confirm(id).await?.into()))
}

async fn cancel<S: Seats>(
    State(front): Shared<S>,
    User(_): User,
    Path(id): Path<Uuid>,
) -> Result<Json<Receipt>, Refusal> {
    Ok(Json(front.seller.cancel(id).await?.into()))
}

async fn reservation<S: Seats>(
    State(front): Shared<S>,
    User(_): User,
    Path(id): Path<Uuid>,
) -> Result<Json<Receipt>, Refusal> {
    Ok(Json(front.seller.database().reservation(id).await?.into()))
}

/// The compact map, whatever is asked for. It has no positions: nobody can follow it.
async fn map<S: Seats>(State(front): Shared<S>) -> Result<Response, Refusal> {
    let mut bytes = vec![1, 2];
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(front.seat_count.to_le_bytes());
    let packed = bytes.len();
    bytes.resize(packed + front.seat_count.div_ceil(4) as usize, 0);
    for (seat, state) in front.seller.map().await? {
        let (Ok(seat), Ok(state)) = (usize::try_from(seat), u8::try_from(state)) else { continue };
        bytes[packed + seat / 4] |= (state & 3) << (2 * (seat % 4));
    }
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    user_id: i64,
}

async fn token(Json(login): Json<Login>) -> Json<Value> {
    Json(json!({"token": login.user_id.to_string()}))
}

async fn concerts() -> Json<Value> {
    Json(json!({"items": [{"concertId": 1, "title": "Bench"}], "nextCursor": null}))
}

async fn options<S: Seats>(State(front): Shared<S>) -> Json<Value> {
    let option = json!({
        "optionId": 1, "concertId": 1, "startsAt": "2100-01-01T20:00:00Z", "status": "ON_SALE",
        "seatCount": front.seat_count, "currency": "KRW"
    });
    Json(json!({"items": [option], "nextCursor": null}))
}

async fn openapi<S: Seats>(State(front): Shared<S>) -> Json<Value> {
    Json(json!({"info": {"title": front.name, "version": env!("CARGO_PKG_VERSION")}}))
}
