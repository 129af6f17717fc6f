//! A seating plan as the public sees it: labels, positions, sections, prices.
//! (Scaffold: the fields are settled, the rest follows.)

use serde::{Deserialize, Serialize};

/// Seats in plan order, best first; a seat's index is its `SeatNo`. Its canonical JSON (serde_json,
/// fields in this order) is what is hashed, stored compressed and served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    pub categories: Vec<Category>,
    pub sections: Vec<Section>,
}

/// A price category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Category {
    pub name: String,
    /// In minor units of the currency.
    pub price: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Section {
    pub code: String,
    pub rows: Vec<Row>,
}

/// A row, or one stretch of it between two aisles: its seats are neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Row {
    pub label: String,
    pub seats: Vec<Seat>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seat {
    /// Unique in the plan, e.g. `A-12-7`.
    pub label: String,
    /// Index into `categories`.
    pub category: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub x: f64,
    pub y: f64,
}
