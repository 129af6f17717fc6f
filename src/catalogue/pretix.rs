//! Plans in pretix's open seating-plan JSON. What the form has and we have no use for (colours, areas,
//! sizes, the extensions of its editors) is kept out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use engine::limits::SEATS_PER_OPTION;
use serde::Deserialize;

use super::natural;
use super::plan::{COORDINATE_MAX, Category, Plan, PlanError, Position, Row, Seat, Section, too_many_seats};
use super::read::{Named, Priced, ReadOptions, Warning, category_index, parse, price};
use super::stretches::stretches;

#[derive(Deserialize)]
struct Document<'a> {
    name: String,
    categories: Vec<CategoryOf>,
    #[serde(borrow)]
    zones: Vec<Zone<'a>>,
}

#[derive(Deserialize)]
struct CategoryOf {
    name: String,
}

#[derive(Deserialize)]
struct Zone<'a> {
    name: Option<String>,
    position: Point,
    #[serde(borrow)]
    rows: Vec<RowOf<'a>>,
}

#[derive(Deserialize)]
struct RowOf<'a> {
    #[serde(borrow)]
    row_number: Cow<'a, str>,
    position: Option<Point>,
    #[serde(borrow)]
    seats: Vec<SeatOf<'a>>,
}

#[derive(Deserialize)]
struct SeatOf<'a> {
    #[serde(borrow)]
    seat_guid: Cow<'a, str>,
    #[serde(borrow)]
    seat_number: Cow<'a, str>,
    position: Point,
    #[serde(borrow)]
    category: Cow<'a, str>,
}

/// Relative to what it is in: a seat to its row, a row to its zone.
#[derive(Clone, Copy, Default, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

/// A section while its rows are collected.
struct Draft {
    code: String,
    rows: Vec<Row>,
}

struct Reader<'a> {
    categories: &'a [Category],
    by_name: HashMap<&'a str, u8>,
    guids: HashSet<String>,
    warnings: &'a mut Vec<Warning>,
}

/// Reads a text whose JSON has `zones`. Zones become sections in their order, those of one name one
/// section; rows and seats follow in natural order. Zones without seats (a stage) are left out.
pub(super) fn read(
    text: &str,
    options: &ReadOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Plan, PlanError> {
    let document: Document<'_> = parse(text)?;
    let rows = document.zones.iter().flat_map(|zone| &zone.rows);
    let seat_count = rows.map(|row| row.seats.len() as u64).sum();
    if seat_count > u64::from(SEATS_PER_OPTION) {
        return Err(too_many_seats(seat_count));
    }
    let named =
        document.categories.into_iter().map(|one| Named { name: one.name.trim().into(), price: None });
    let Priced { categories, currency } = price(named.collect(), None, options, warnings)?;
    let mut reader =
        Reader { categories: &categories, by_name: HashMap::new(), guids: HashSet::new(), warnings };
    for category in &categories {
        let index =
            category_index(&categories, &category.name).map_err(|e| PlanError::new("categories", e))?;
        reader.by_name.insert(&category.name, index);
    }
    let sections = reader.sections(&document.zones)?;
    Ok(Plan { name: document.name.trim().to_owned(), currency, sections, categories })
}

impl Reader<'_> {
    fn sections(&mut self, zones: &[Zone<'_>]) -> Result<Vec<Section>, PlanError> {
        let mut drafts: Vec<Draft> = Vec::new();
        let mut by_code: HashMap<String, usize> = HashMap::new();
        for (index, zone) in zones.iter().enumerate() {
            if zone.rows.iter().all(|row| row.seats.is_empty()) {
                continue;
            }
            let code = self.name_or(zone.name.as_deref().unwrap_or_default(), || {
                (format!("/zones/{index}/name"), format!("Z{}", index + 1))
            });
            let draft = *by_code.entry(code.clone()).or_insert_with(|| {
                drafts.push(Draft { code, rows: Vec::new() });
                drafts.len() - 1
            });
            self.rows(index, zone, &mut drafts[draft])?;
        }
        Ok(drafts.into_iter().map(Draft::finish).collect())
    }

    fn rows(&mut self, zone_index: usize, zone: &Zone<'_>, draft: &mut Draft) -> Result<(), PlanError> {
        for (index, row) in zone.rows.iter().enumerate().filter(|(_, row)| !row.seats.is_empty()) {
            let label = self.name_or(&row.row_number, || {
                (format!("/zones/{zone_index}/rows/{index}/row_number"), format!("R{}", index + 1))
            });
            let place = format!("section {}, row {label}", draft.code);
            let at = row.position.unwrap_or_default();
            let origin = Point { x: zone.position.x + at.x, y: zone.position.y + at.y };
            let mut seats = Vec::with_capacity(row.seats.len());
            for (index, seat) in row.seats.iter().enumerate() {
                let read = self.seat(&draft.code, &label, origin, seat);
                seats.push(read.map_err(|reason| {
                    PlanError::new(&place, format!("{reason} (seat {} in the file)", index + 1))
                })?);
            }
            seats.sort_by(|left, right| natural::compare(&left.label, &right.label));
            if let Some(twice) = seats.windows(2).find(|pair| pair[0].label == pair[1].label) {
                return Err(PlanError::new(place, format!("seat {} stands twice", twice[0].label)));
            }
            draft.rows.extend(stretches(seats).map(|seats| Row { label: label.clone(), seats }));
        }
        Ok(())
    }

    fn seat(&mut self, code: &str, row: &str, origin: Point, seat: &SeatOf<'_>) -> Result<Seat, String> {
        let number = seat.seat_number.trim();
        if number.is_empty() {
            return Err("a seat has an empty seat_number".to_owned());
        }
        let label = format!("{code}-{row}-{number}");
        let category = match self.by_name.get(seat.category.trim()) {
            Some(index) => *index,
            None => {
                category_index(self.categories, &seat.category).map_err(|e| format!("seat {label}: {e}"))?
            }
        };
        if seat.seat_guid.trim().is_empty() {
            return Err(format!("seat {label} has an empty seat_guid"));
        }
        if !self.guids.insert(seat.seat_guid.clone().into_owned()) {
            return Err(format!("seat {label}: the seat_guid {:?} stands twice", seat.seat_guid));
        }
        let (x, y) = (origin.x + seat.position.x, origin.y + seat.position.y);
        // Not `>`, so that what is not a number fails as well.
        if !(x.abs() <= COORDINATE_MAX && y.abs() <= COORDINATE_MAX) {
            return Err(format!("seat {label} lies at {x:e}, {y:e}, beyond ±{COORDINATE_MAX:e}"));
        }
        Ok(Seat { label, category, position: Some(Position::new(x, y)) })
    }

    /// The name, or the substitute when there is none, with a warning about its place.
    fn name_or(&mut self, name: &str, substitute: impl FnOnce() -> (String, String)) -> String {
        if !name.trim().is_empty() {
            return name.trim().to_owned();
        }
        let (place, name) = substitute();
        self.warnings.push(Warning(format!("{place}: there is no name; it is called {name}")));
        name
    }
}

impl Draft {
    /// Rows in natural order; the stretches of one row by the lowest seat of each.
    fn finish(mut self) -> Section {
        self.rows.sort_by_cached_key(|row| {
            let lowest = row.seats.iter().map(|seat| Natural(seat.label.clone())).min();
            (Natural(row.label.clone()), lowest)
        });
        Section { code: self.code, rows: self.rows }
    }
}

/// A label that sorts naturally.
#[derive(PartialEq, Eq)]
struct Natural(String);

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        natural::compare(&self.0, &other.0)
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
