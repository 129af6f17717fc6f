//! The JSON of the API: camelCase, instants in RFC 3339 UTC, money in minor units with its currency beside it.
//! The edge owns these shapes; engine types are converted by hand, at this border and nowhere else.

use std::fmt;
use std::marker::PhantomData;

use engine::option::OptionStatus;
use engine::{Reservation, SeatList, SeatNo, Span, Time};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::catalogue::directory::OptionEntry;
use crate::catalogue::{Concert, ConcertOption};

/// A problem, RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody<'a> {
    /// `urn:hotseat:problem:CODE`.
    #[schema(example = "urn:hotseat:problem:SEAT_TAKEN")]
    pub r#type: String,
    #[schema(example = "A seat is taken")]
    pub title: &'a str,
    #[schema(example = 409)]
    pub status: u16,
    pub detail: &'a str,
    /// Stable; what a client decides by.
    #[schema(example = "SEAT_TAKEN")]
    pub code: &'a str,
    /// The same as the answer's `X-Request-Id`.
    pub request_id: &'a str,
    /// `SEAT_TAKEN`: which seats clash, and with what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Vec<Conflict>>,
    /// `SEAT_TAKEN` of a block in several parts: the reservations of the parts that did not clash.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub blocked: &'a [ReservationView],
    /// `NO_SEATS_TOGETHER`: the longest run there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<u32>,
    /// `RESERVATION_STATE`: the state it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'a str>,
    /// `MALFORMED`: a JSON pointer into the body, or `/headers/NAME`, `/path/NAME`, `/query/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<&'a str>,
}

/// A seat that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    pub seat_no: u32,
    /// SELECTING, HOLD or CONFIRMED.
    #[schema(example = "HOLD")]
    pub state: &'static str,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Send it as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// A seat by number and label.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeatView<'a> {
    pub seat_no: u32,
    #[schema(example = "A-12-7")]
    pub label: &'a str,
}

/// A handful of seats with their labels, written without being collected first.
pub struct Labelled<'a> {
    entry: &'a OptionEntry,
    seats: SeatList,
}

impl<'a> Labelled<'a> {
    pub const fn new(entry: &'a OptionEntry, seats: SeatList) -> Self {
        Self { entry, seats }
    }
}

impl Serialize for Labelled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = |seat: SeatNo| SeatView { seat_no: seat.0, label: self.entry.label(seat) };
        serializer.collect_seq(self.seats.iter().map(view))
    }
}

/// Seats that are mine for a while.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectionView<'a> {
    pub option_id: u32,
    #[schema(value_type = Vec<SeatView<'a>>)]
    pub seats: Labelled<'a>,
    pub expires_at: Instant,
}

/// Seats that were mine.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedView<'a> {
    pub option_id: u32,
    #[schema(value_type = Vec<SeatView<'a>>)]
    pub released: Labelled<'a>,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReservationView {
    #[schema(format = "uuid", example = "0198c0de-0000-7000-8000-000000000001")]
    pub reservation_id: String,
    /// SALE, or BLOCK for house seats.
    #[schema(example = "SALE")]
    pub kind: &'static str,
    /// HOLD, PAYING, CONFIRMED, CANCELLED, REFUNDED or EXPIRED.
    #[schema(example = "HOLD")]
    pub status: &'static str,
    pub concert_id: u64,
    pub option_id: u32,
    pub user_id: u64,
    pub seats: Vec<OwnedSeat>,
    /// In minor units of the currency.
    #[schema(example = 24000)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub currency: String,
    /// When it expires; null unless HOLD or PAYING.
    pub hold_expires_at: Option<Instant>,
    pub created_at: Instant,
    pub changed_at: Instant,
    /// 1 at birth, one more at each transition.
    pub version: u32,
    /// Whether paying ever began, so that money may have to go back.
    pub payment_started: bool,
}

/// A seat by number and label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SeatView)]
#[serde(rename_all = "camelCase")]
pub struct OwnedSeat {
    pub seat_no: u32,
    pub label: String,
}

impl ReservationView {
    pub fn new(reservation: &Reservation, entry: &OptionEntry) -> Self {
        let expires = Some(reservation.deadline).filter(|deadline| *deadline != Time::NEVER);
        let seat = |seat: SeatNo| OwnedSeat { seat_no: seat.0, label: entry.label(seat).to_owned() };
        Self {
            reservation_id: reservation.id.to_string(),
            kind: reservation.kind.name(),
            status: reservation.status.name(),
            concert_id: reservation.concert.0,
            option_id: reservation.option.0,
            user_id: reservation.user.0,
            seats: reservation.seats.iter().map(seat).collect(),
            amount: reservation.amount,
            currency: entry.currency().to_owned(),
            hold_expires_at: expires.map(Instant),
            created_at: Instant(reservation.created_at),
            changed_at: Instant(reservation.changed_at),
            version: reservation.version,
            payment_started: reservation.payment_started,
        }
    }
}

/// A concert.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConcertView {
    pub concert_id: u64,
    pub title: String,
    pub created_at: Instant,
}

impl ConcertView {
    pub fn new(concert: &Concert) -> Self {
        Self {
            concert_id: concert.concert.0,
            title: concert.title.clone(),
            created_at: Instant(concert.created_at),
        }
    }
}

/// A dated performance of a concert.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptionView {
    pub option_id: u32,
    pub concert_id: u64,
    pub starts_at: Instant,
    /// ON_SALE, CLOSED, or PENDING while its shard has not added it to the sale.
    #[schema(example = "ON_SALE")]
    pub status: &'static str,
    pub seat_count: u32,
    /// ISO 4217.
    pub currency: String,
    /// Ask for the plan with `?hash=` this, and keep it for ever.
    pub plan_hash: String,
}

impl OptionView {
    pub fn new(entry: &OptionEntry) -> Self {
        Self {
            option_id: entry.option.0,
            concert_id: entry.concert.0,
            starts_at: Instant(entry.starts_at),
            status: entry.status.map_or("PENDING", OptionStatus::name),
            seat_count: entry.seat_count(),
            currency: entry.currency().to_owned(),
            plan_hash: entry.plan_hash.clone(),
        }
    }

    /// An option that the directory may not know yet.
    pub fn imported(option: &ConcertOption, currency: &str) -> Self {
        Self {
            option_id: option.option.0,
            concert_id: option.concert.0,
            starts_at: Instant(option.starts_at),
            status: option.status.map_or("PENDING", OptionStatus::name),
            seat_count: option.seat_count,
            currency: currency.to_owned(),
            plan_hash: option.plan_hash.clone(),
        }
    }
}

/// The public state of all seats of an option. Written by hand in `seats`; this describes it.
#[derive(ToSchema)]
#[schema(as = Seats, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `seats` writes")]
pub struct SeatsView {
    option_id: u32,
    /// The owner's epoch; with `seq` the position in the feed.
    epoch: u64,
    seq: u64,
    counts: Counts,
    seats: Vec<SeatStateView>,
}

/// Seats per state.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `seats` writes")]
pub struct Counts {
    available: u32,
    selecting: u32,
    hold: u32,
    confirmed: u32,
}

/// One seat's public state.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `seats` writes")]
pub struct SeatStateView {
    seat_no: u32,
    label: String,
    /// AVAILABLE, SELECTING, HOLD or CONFIRMED.
    #[schema(example = "AVAILABLE")]
    state: String,
}

/// A seating plan. The catalogue writes it; this describes it.
#[derive(ToSchema)]
#[schema(as = Plan)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanView {
    name: String,
    /// ISO 4217.
    currency: String,
    categories: Vec<PlanCategory>,
    sections: Vec<PlanSection>,
}

/// A price category.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanCategory {
    name: String,
    /// In minor units of the currency.
    price: i64,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanSection {
    code: String,
    rows: Vec<PlanRow>,
}

/// A row, or one stretch of it between two aisles: its seats are neighbours.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanRow {
    label: String,
    seats: Vec<PlanSeat>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanSeat {
    label: String,
    /// Index into `categories`.
    category: u8,
    position: Option<PlanPosition>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the catalogue writes")]
pub struct PlanPosition {
    x: f64,
    y: f64,
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every character");
        text
    })
}

/// Reads as many bytes in hex, of either case; `None` where it is anything else.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

/// Milliseconds, rounded up.
pub const fn millis(span: Span) -> i64 {
    span.0.saturating_add(999) / 1_000
}

/// An instant, RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2027-05-01T10:00:00Z")]
pub struct Instant(pub Time);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Out of jiff's range (year 9999) is only what no clock ever says.
        match jiff::Timestamp::from_microsecond(self.0.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => jiff::Timestamp::MAX.fmt(f),
        }
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A JSON object. serde would read a struct from an array as well, by the order of its fields, which no client
/// ever means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Seat numbers as a client names them. Any integer is a seat number: one that no plan has is the
/// engine's to refuse, in its place among the verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = Vec<u32>, example = json!([3, 4]))]
pub struct Seats(pub SeatList);

impl<'de> Deserialize<'de> for Seats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Seats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of seat numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seats, A::Error> {
                let mut seats = SeatList::default();
                while let Some(seat) = seq.next_element::<Seat>()? {
                    seats.push(SeatNo(seat.0));
                }
                Ok(Seats(seats))
            }
        }

        deserializer.deserialize_seq(Each)
    }
}

/// An integer, squeezed into a u32: what does not fit becomes a number that no plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(pub u32);

impl<'de> Deserialize<'de> for Seat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer;

        impl Visitor<'_> for Integer {
            type Value = Seat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Seat, E> {
                Ok(Seat(u32::try_from(number).unwrap_or(u32::MAX)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Seat, E> {
                Ok(Seat(u32::try_from(number).unwrap_or(u32::MAX)))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Seat, E> {
                // Integers beyond 64 bits arrive as floats.
                if number.abs() >= 9_223_372_036_854_775_808.0 {
                    Ok(Seat(u32::MAX))
                } else {
                    Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
                }
            }
        }

        deserializer.deserialize_u64(Integer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_no_plan_has_are_seats_and_the_rest_is_not() {
        let seats = |text: &str| serde_json::from_str::<Seats>(text).map(|seats| seats.0);
        let list = |numbers: &[u32]| numbers.iter().copied().map(SeatNo).collect::<SeatList>();
        assert_eq!(seats("[3,4]").unwrap(), list(&[3, 4]));
        assert_eq!(seats("[]").unwrap(), list(&[]));
        assert_eq!(seats("[1,2,3,4,5,6,7,8,9]").unwrap().len(), 9);
        let beyond = "[4294967296,-1,99999999999999999999999]";
        assert_eq!(seats(beyond).unwrap(), list(&[u32::MAX; 3]));
        for text in ["[1.5]", "[\"1\"]", "[null]", "[true]", "3", "{}", "null", "[[1]]"] {
            assert!(seats(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        assert_eq!(Instant(Time(1_809_252_000_000_000)).to_string(), "2027-05-02T10:00:00Z");
        assert_eq!(Instant(Time(1_500_000)).to_string(), "1970-01-01T00:00:01.5Z");
        assert_eq!(Instant(Time::NEVER).to_string(), jiff::Timestamp::MAX.to_string());
    }
}
