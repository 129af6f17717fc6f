//! Reading a seating plan: which form it is, where it goes wrong, and what its seats cost.

use std::collections::BTreeMap;
use std::fmt;

use engine::limits::CATEGORIES_PER_PLAN;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_path_to_error::Segment;

use super::plan::{Category, Plan, PlanError, not_json};
use super::{pretix, short};

/// A file longer than this is no seating plan: 200,000 seats take about 40 MiB in pretix's form.
pub const INPUT_MAX: usize = 64 << 20;

/// Brackets inside brackets. Both forms need fewer than ten; what is kept out may have some more.
const DEPTH_MAX: usize = 32;

/// The currency of a plan that names none and on which nothing has a price: any would do.
const FREE_CURRENCY: &str = "KRW";

/// What a plan's file may leave to whoever imports it. It goes before what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// By category name, in minor units of the currency.
    pub prices: BTreeMap<String, i64>,
    /// ISO 4217.
    pub currency: Option<String>,
}

/// Something the reader decided because the file did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A plan's categories with their prices, and its currency.
pub(super) struct Priced {
    pub categories: Vec<Category>,
    pub currency: String,
}

/// A category as a file names it; the price is absent where the form has none.
pub(super) struct Named {
    pub name: String,
    pub price: Option<i64>,
}

/// The keys that tell the forms apart.
#[derive(Deserialize)]
struct Keys {
    zones: Option<IgnoredAny>,
    sections: Option<IgnoredAny>,
}

/// Reads a seating plan in pretix's form (it has `zones`) or in our own short one (`sections`). Takes
/// a good part of a second for the largest plans: not for an async thread.
///
/// # Errors
/// What is wrong, and where.
pub fn read_plan(bytes: &[u8], options: &ReadOptions) -> Result<(Plan, Vec<Warning>), PlanError> {
    if bytes.len() > INPUT_MAX {
        let reason = format!("{} bytes, at most {INPUT_MAX}", bytes.len());
        return Err(PlanError::new("file", reason));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| PlanError::new(place_at(bytes, error.valid_up_to()), "not UTF-8"))?;
    // Some editors begin a file with a byte order mark, which is not JSON.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_depth(text.as_bytes())?;
    if !text.trim_start().starts_with('{') {
        return Err(PlanError::new("line 1, column 1", "expected a JSON object, the seating plan"));
    }
    let keys: Keys = parse(text)?;
    let mut warnings = Vec::new();
    let plan = match (keys.zones, keys.sections) {
        (Some(_), None) => pretix::read(text, options, &mut warnings)?,
        (None, Some(_)) => short::read(text, options, &mut warnings)?,
        (Some(_), Some(_)) => {
            return Err(PlanError::new("file", "it has both `zones` (pretix) and `sections` (short form)"));
        }
        (None, None) => {
            return Err(PlanError::new(
                "file",
                "it has neither `zones` (pretix) nor `sections` (short form)",
            ));
        }
    };
    plan.check()?;
    Ok((plan, warnings))
}

/// Decodes the text; an error names the JSON pointer as well as line and column.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, PlanError> {
    serde_json::from_str(text).map_err(|error| {
        // Keeping track of the path costs time, so only a failed text is walked with it.
        let json = &mut serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(json) {
            Err(found) if found.path().iter().next().is_some() && !found.inner().is_syntax() => {
                PlanError::new(pointer(found.path()), found.inner())
            }
            _ => not_json(&error),
        }
    })
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } | Segment::Enum { variant: key } => {
            format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
        }
        Segment::Unknown => pointer,
    })
}

/// Refuses what is nested too deep before any parser recurses into it.
fn check_depth(json: &[u8]) -> Result<(), PlanError> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let reason = format!("nested deeper than {DEPTH_MAX} levels");
                    return Err(PlanError::new(place_at(json, at), reason));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The line and column of a byte, both from 1; columns count bytes, as serde_json's do.
fn place_at(text: &[u8], at: usize) -> String {
    let before = &text[..at];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    format!("line {line}, column {column}")
}

/// Puts the importer's prices over the file's.
///
/// # Errors
/// Too many categories, the price of a category that there is none of, a price without a currency.
pub(super) fn price(
    named: Vec<Named>,
    currency: Option<String>,
    options: &ReadOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Priced, PlanError> {
    if named.len() > CATEGORIES_PER_PLAN {
        let reason = format!("{} categories, at most {CATEGORIES_PER_PLAN}", named.len());
        return Err(PlanError::new("categories", reason));
    }
    if let Some(unknown) = options.prices.keys().find(|name| named.iter().all(|one| one.name != **name)) {
        let known: Vec<_> = named.iter().map(|one| format!("{:?}", one.name)).collect();
        let reason = format!("the plan has no such category; it has {}", known.join(", "));
        return Err(PlanError::new(format_args!("price of {unknown:?}"), reason));
    }
    let mut categories = Vec::with_capacity(named.len());
    for Named { name, price } in named {
        let price = options.prices.get(&name).copied().or(price).unwrap_or_else(|| {
            warnings.push(Warning(format!("category {name:?} has no price; its seats cost 0")));
            0
        });
        categories.push(Category { name, price });
    }
    let currency = options.currency.clone().or(currency);
    if currency.is_none() && categories.iter().any(|category| category.price != 0) {
        return Err(PlanError::new("currency", "there are prices, but no currency such as KRW"));
    }
    let currency = currency.unwrap_or_else(|| {
        warnings
            .push(Warning(format!("there is no currency; as nothing has a price, it is {FREE_CURRENCY}")));
        FREE_CURRENCY.to_owned()
    });
    Ok(Priced { categories, currency })
}

/// The index of a category, by its name.
pub(super) fn category_index(categories: &[Category], name: &str) -> Result<u8, String> {
    let index = categories.iter().position(|category| category.name == name);
    index
        .and_then(|index| u8::try_from(index).ok())
        .ok_or_else(|| format!("category {name:?} is not among the plan's categories"))
}
