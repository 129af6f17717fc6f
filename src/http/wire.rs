//! The JSON of the API: camelCase, instants in RFC 3339 UTC, money in minor units with its currency beside it.
//! The edge owns these shapes; engine types are converted by hand, at this border and nowhere else.

use std::fmt;
use std::marker::PhantomData;

use engine::{SeatList, SeatNo, Time};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
