//! A seating plan as the public sees it: labels, positions, sections, prices.

use std::collections::HashSet;
use std::fmt;
use std::io::{Read, Write};

use engine::SeatNo;
use engine::limits::{CATEGORIES_PER_PLAN, SEATS_PER_COMMAND, SEATS_PER_OPTION, SECTIONS_PER_PLAN};
use engine::plan::{Layout, Run};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Canonical JSON longer than this is none of ours: 200,000 seats with the longest labels stay below.
pub const JSON_MAX: u64 = 128 << 20;

/// Bytes of a section code, a row label or a seat number.
pub const CODE_MAX: usize = 64;

/// Bytes of a plan's or a category's name.
pub const NAME_MAX: usize = 200;

/// The most a seat may cost: a full reservation then still is an integer that JSON carries exactly.
pub const PRICE_MAX: i64 = engine::ids::PUBLIC_ID_MAX as i64 / SEATS_PER_COMMAND as i64;

/// Coordinates lie within this of the origin. Rounded to hundredths they survive JSON unchanged, so
/// that a plan read back has the hash it was written with.
pub const COORDINATE_MAX: f64 = 1e9;

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

/// A row, or one stretch of it between two aisles: its seats are neighbours. Stretches of one row
/// carry the same label.
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

/// Why a plan is none: where, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct PlanError {
    /// `section B, row 12`, `/zones/0/rows/3` or `line 5, column 10`.
    pub place: String,
    pub reason: String,
}

impl PlanError {
    pub(crate) fn new(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { place: place.to_string(), reason: reason.to_string() }
    }
}

impl Position {
    /// The point rounded to hundredths.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        // Adding zero turns -0.0 into 0.0: one point, one canonical form.
        let round = |c: f64| (c * 100.0).round() / 100.0 + 0.0;
        Self { x: round(x), y: round(y) }
    }

    fn is_canonical(self) -> bool {
        [self.x, self.y].iter().all(|c| c.abs() <= COORDINATE_MAX)
            && (self.x.to_bits(), self.y.to_bits()) == {
                let rounded = Self::new(self.x, self.y);
                (rounded.x.to_bits(), rounded.y.to_bits())
            }
    }
}

impl Plan {
    /// Every stretch of every row, in plan order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> + '_ {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    /// Every seat, in plan order.
    pub fn seats(&self) -> impl Iterator<Item = &Seat> + '_ {
        self.rows().flat_map(|row| &row.seats)
    }

    #[must_use]
    pub fn seat_count(&self) -> u32 {
        u32::try_from(self.rows().map(|row| row.seats.len()).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// The seat of a number; walks the rows.
    #[must_use]
    pub fn seat(&self, seat: SeatNo) -> Option<&Seat> {
        let mut left = seat.0 as usize;
        self.rows().find_map(|row| {
            let found = row.seats.get(left);
            left = left.saturating_sub(row.seats.len());
            found
        })
    }

    /// The number of the seat with this label; walks the seats.
    #[must_use]
    pub fn seat_no(&self, label: &str) -> Option<SeatNo> {
        (0..).map(SeatNo).zip(self.seats()).find_map(|(no, seat)| (seat.label == label).then_some(no))
    }

    /// What the engine needs of a plan that passed [`Self::check`].
    #[must_use]
    pub fn layout(&self) -> Layout {
        let mut layout = LayoutBuilder::new(self.categories.iter().map(|category| category.price));
        for section in &self.sections {
            layout.section();
            for row in &section.rows {
                layout.run(row.seats.iter().map(|seat| seat.category));
            }
        }
        layout.0
    }

    /// The canonical JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, integers and finite numbers always serialize")
    }

    /// SHA-256 of the canonical JSON, in lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        hash_of(&self.to_json())
    }

    /// The canonical JSON, compressed: what the catalogue stores.
    #[must_use]
    pub fn to_gzip(&self) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&self.to_json()).expect("a Vec takes every write");
        gzip.finish().expect("a Vec takes every write")
    }

    /// Reads what [`Self::to_gzip`] wrote.
    ///
    /// # Errors
    /// Not gzip, longer than [`JSON_MAX`], or not a plan.
    pub fn from_gzip(gzip: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(&inflate(gzip)?).map_err(|error| not_json(&error))?;
        plan.check()?;
        Ok(plan)
    }

    /// Everything that the engine, the ledger and the public rely on.
    ///
    /// # Errors
    /// The first rule the plan breaks, and where.
    pub fn check(&self) -> Result<(), PlanError> {
        check_text("name", &self.name, NAME_MAX)?;
        check_currency(&self.currency)?;
        self.check_categories()?;
        if self.sections.len() > SECTIONS_PER_PLAN {
            let reason = format!("{} sections, at most {SECTIONS_PER_PLAN}", self.sections.len());
            return Err(PlanError::new("sections", reason));
        }
        let seat_count = self.seat_count();
        if seat_count == 0 {
            return Err(PlanError::new("plan", "it has no seats"));
        }
        if seat_count > SEATS_PER_OPTION {
            return Err(too_many_seats(seat_count.into()));
        }
        self.check_sections(seat_count)
    }

    fn check_categories(&self) -> Result<(), PlanError> {
        let count = self.categories.len();
        if count == 0 || count > CATEGORIES_PER_PLAN {
            let reason = format!("{count} categories, expected 1 to {CATEGORIES_PER_PLAN}");
            return Err(PlanError::new("categories", reason));
        }
        let mut names = HashSet::new();
        for category in &self.categories {
            let place = format_args!("category {:?}", category.name);
            check_text(place, &category.name, NAME_MAX)?;
            if !names.insert(&category.name) {
                return Err(PlanError::new(place, "stands twice"));
            }
            check_price(&category.name, category.price)?;
        }
        Ok(())
    }

    fn check_sections(&self, seat_count: u32) -> Result<(), PlanError> {
        let mut codes = HashSet::new();
        let mut labels = HashSet::with_capacity(seat_count as usize);
        for section in &self.sections {
            let place = format_args!("section {}", section.code);
            check_text(place, &section.code, CODE_MAX)?;
            if !codes.insert(&section.code) {
                return Err(PlanError::new(place, "stands twice"));
            }
            if section.rows.is_empty() {
                return Err(PlanError::new(place, "it has no rows"));
            }
            for row in &section.rows {
                let place = format_args!("section {}, row {}", section.code, row.label);
                check_text(place, &row.label, CODE_MAX)?;
                if row.seats.is_empty() {
                    return Err(PlanError::new(place, "it has no seats"));
                }
                for seat in &row.seats {
                    self.check_seat(seat).map_err(|reason| PlanError::new(place, reason))?;
                    if !labels.insert(seat.label.as_str()) {
                        return Err(PlanError::new(place, format!("seat {} stands twice", seat.label)));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_seat(&self, seat: &Seat) -> Result<(), String> {
        check_text("seat", &seat.label, 3 * CODE_MAX + 2).map_err(|error| error.to_string())?;
        if usize::from(seat.category) >= self.categories.len() {
            return Err(format!("seat {} is of category {}, which is none", seat.label, seat.category));
        }
        if seat.position.is_some_and(|position| !position.is_canonical()) {
            return Err(format!(
                "seat {} has a position beyond ±{COORDINATE_MAX} or finer than hundredths",
                seat.label
            ));
        }
        Ok(())
    }
}

/// Collects a layout row by row.
pub(super) struct LayoutBuilder(pub(super) Layout);

impl LayoutBuilder {
    pub(super) fn new(prices: impl Iterator<Item = i64>) -> Self {
        Self(Layout { prices: prices.collect(), ..Layout::default() })
    }

    /// Begins a section.
    pub(super) fn section(&mut self) {
        let first = self.next();
        self.0.sections.push(first);
    }

    /// Adds neighbours.
    pub(super) fn run(&mut self, categories: impl Iterator<Item = u8>) {
        let first = self.next();
        self.0.categories.extend(categories);
        self.0.runs.push(Run { first, seats: self.next().0 - first.0 });
    }

    fn next(&self) -> SeatNo {
        SeatNo(u32::try_from(self.0.categories.len()).expect("a plan has at most 200,000 seats"))
    }
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn hash_of(json: &[u8]) -> String {
    use fmt::Write as _;

    Sha256::digest(json).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes every write");
        hex
    })
}

/// The canonical JSON inside a stored plan; stops at [`JSON_MAX`], whatever the gzip promises.
pub(super) fn inflate(gzip: &[u8]) -> Result<Vec<u8>, PlanError> {
    let mut json = Vec::new();
    GzDecoder::new(gzip)
        .take(JSON_MAX + 1)
        .read_to_end(&mut json)
        .map_err(|error| PlanError::new("gzip", error))?;
    if json.len() as u64 > JSON_MAX {
        return Err(PlanError::new("gzip", format!("more than {JSON_MAX} bytes inside")));
    }
    Ok(json)
}

/// Where serde_json stopped, and why.
pub(super) fn not_json(error: &serde_json::Error) -> PlanError {
    let place = format!("line {}, column {}", error.line(), error.column());
    let reason = error.to_string();
    PlanError::new(place, reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason))
}

pub(super) fn too_many_seats(seats: u64) -> PlanError {
    PlanError::new("plan", format!("{seats} seats, at most {SEATS_PER_OPTION}"))
}

pub(super) fn check_price(category: &str, price: i64) -> Result<(), PlanError> {
    if (0..=PRICE_MAX).contains(&price) {
        return Ok(());
    }
    let reason = format!("the price {price} is not between 0 and {PRICE_MAX}");
    Err(PlanError::new(format_args!("category {category:?}"), reason))
}

pub(super) fn check_currency(currency: &str) -> Result<(), PlanError> {
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let reason = format!("{currency:?} is no ISO 4217 code: three capital letters such as KRW");
    Err(PlanError::new("currency", reason))
}

/// Something to read: not empty, not too long, no control characters, no white space around it.
fn check_text(place: impl fmt::Display, text: &str, max: usize) -> Result<(), PlanError> {
    let reason = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > max {
        format!("is longer than {max} bytes")
    } else if text.trim() != text || text.chars().any(char::is_control) {
        format!("{text:?} has control characters or white space around it")
    } else {
        return Ok(());
    };
    Err(PlanError::new(place, reason))
}
