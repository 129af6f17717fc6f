//! Our own short form: sections of numbered rows, or of so many places.

use std::fmt;

use engine::limits::SEATS_PER_OPTION;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::natural;
use super::plan::{Category, Plan, PlanError, Row, Seat, Section, too_many_seats};
use super::read::{Named, Priced, ReadOptions, Warning, category_index, parse, price};

/// The name of a plan that has none, and of its only category.
const PLAN_NAME: &str = "Seating plan";
const ONLY_CATEGORY: &str = "Standard";

/// The row of a section that has a capacity and no rows.
const GENERAL_ADMISSION: &str = "GA";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: Option<String>,
    currency: Option<String>,
    categories: Option<Vec<CategoryOf>>,
    sections: Vec<SectionOf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CategoryOf {
    name: String,
    price: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionOf {
    code: Code,
    rows: Option<Vec<RowOf>>,
    capacity: Option<u32>,
    category: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowOf {
    label: Code,
    from: u32,
    to: u32,
    category: Option<String>,
}

/// A label that may be written as a number: `"12"` or `12`.
struct Code(String);

/// Reads a text whose JSON has `sections`. Sections stay in their order, rows follow in natural order; a
/// label that comes twice in a section is one row with an aisle.
pub(super) fn read(
    text: &str,
    options: &ReadOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Plan, PlanError> {
    let document: Document = parse(text)?;
    count_seats(&document.sections)?;
    let named = match document.categories {
        Some(categories) => {
            categories.into_iter().map(|one| Named { name: one.name, price: one.price }).collect()
        }
        None => vec![Named { name: ONLY_CATEGORY.to_owned(), price: None }],
    };
    let Priced { categories, currency } = price(named, document.currency, options, warnings)?;
    let sections = document.sections.into_iter().enumerate();
    let sections = sections.map(|(index, section)| read_section(index, section, &categories));
    Ok(Plan {
        name: document.name.unwrap_or_else(|| PLAN_NAME.to_owned()),
        currency,
        sections: sections.collect::<Result<_, _>>()?,
        categories,
    })
}

/// Refuses too many seats before the first is made: a few bytes may ask for billions.
fn count_seats(sections: &[SectionOf]) -> Result<(), PlanError> {
    let mut seats = 0u64;
    for section in sections {
        seats += u64::from(section.capacity.unwrap_or(0));
        for row in section.rows.iter().flatten() {
            if row.from > row.to {
                let place = format!("section {}, row {}", section.code.0, row.label.0);
                return Err(PlanError::new(place, format!("from {} is above to {}", row.from, row.to)));
            }
            seats += u64::from(row.to - row.from) + 1;
        }
    }
    if seats > u64::from(SEATS_PER_OPTION) { Err(too_many_seats(seats)) } else { Ok(()) }
}

fn read_section(index: usize, section: SectionOf, categories: &[Category]) -> Result<Section, PlanError> {
    let SectionOf { code: Code(code), rows, capacity, category } = section;
    let place = format!("section {code} (/sections/{index})");
    let rows = match (rows, capacity) {
        (Some(rows), None) => read_rows(&code, rows, category.as_deref(), categories)?,
        (None, Some(0)) => return Err(PlanError::new(place, "its capacity is 0")),
        (None, Some(capacity)) => {
            let category = pick(category.as_deref(), categories).map_err(|e| PlanError::new(place, e))?;
            let seats = (1..=capacity).map(|number| seat(format!("{code}-{number}"), category));
            vec![Row { label: GENERAL_ADMISSION.to_owned(), seats: seats.collect() }]
        }
        (Some(_), Some(_)) => return Err(PlanError::new(place, "it has both rows and a capacity")),
        (None, None) => return Err(PlanError::new(place, "it has neither rows nor a capacity")),
    };
    Ok(Section { code, rows })
}

fn read_rows(
    code: &str,
    mut rows: Vec<RowOf>,
    category: Option<&str>,
    categories: &[Category],
) -> Result<Vec<Row>, PlanError> {
    rows.sort_by(|l, r| natural::compare(&l.label.0, &r.label.0).then(l.from.cmp(&r.from)));
    let read = rows.into_iter().map(|row| {
        let label = row.label.0;
        let category = pick(row.category.as_deref().or(category), categories)
            .map_err(|reason| PlanError::new(format_args!("section {code}, row {label}"), reason))?;
        let seats = (row.from..=row.to).map(|number| seat(format!("{code}-{label}-{number}"), category));
        Ok(Row { seats: seats.collect(), label })
    });
    read.collect()
}

fn seat(label: String, category: u8) -> Seat {
    Seat { label, category, position: None }
}

/// The category of a name; without one, the plan's only one.
fn pick(name: Option<&str>, categories: &[Category]) -> Result<u8, String> {
    match (name, categories) {
        (Some(name), _) => category_index(categories, name),
        (None, [_]) => Ok(0),
        (None, _) => Err(format!("it names no category, and the plan has {}", categories.len())),
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a whole number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Code, E> {
                Ok(Code(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Code, E> {
                Ok(Code(number.to_string()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
