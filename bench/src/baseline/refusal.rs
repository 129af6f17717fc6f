//! Why something was not done, as hotseat says it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Debug)]
pub enum Refusal {
    /// These seats are somebody else's.
    Taken(Vec<i32>),
    /// A seat is not the user's.
    NotSelected,
    /// Everybody was faster, each time.
    Conflict,
    SeatsInvalid,
    Unauthenticated,
    ReservationUnknown,
    /// The reservation is cancelled.
    State,
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[derive(Serialize)]
struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Conflict>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Conflict {
    seat_no: i32,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Taken(_) => (StatusCode::CONFLICT, "SEAT_TAKEN"),
            Self::NotSelected => (StatusCode::CONFLICT, "NOT_SELECTED"),
            Self::Conflict => (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"),
            Self::SeatsInvalid => (StatusCode::UNPROCESSABLE_ENTITY, "SEATS_INVALID"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            Self::ReservationUnknown => (StatusCode::NOT_FOUND, "RESERVATION_UNKNOWN"),
            Self::State => (StatusCode::CONFLICT, "RESERVATION_STATE"),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        };
        let (conflicts, detail) = match self {
            Self::Taken(seats) => (seats, String::new()),
            Self::Failed(error) => {
                // Into the log as well: the caller may only count.
                eprintln!("{error:#}");
                (Vec::new(), format!("{error:#}"))
            }
            _ => (Vec::new(), String::new()),
        };
        let conflicts = conflicts.into_iter().map(|seat_no| Conflict { seat_no }).collect();
        let problem = Problem { status: status.as_u16(), code, detail, conflicts };
        let mut response = (status, axum::Json(problem)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
