//! What the server keeps of a plan in memory: names, labels and the compressed JSON it hands out.
//! Positions stay in the JSON, so that a stadium of 100,000 seats takes two megabytes and not ten.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use engine::SeatNo;
use engine::plan::Layout;
use serde::Deserialize;

use super::plan::{Category, LayoutBuilder, PlanError, hash_of, inflate, not_json};

/// A plan as the directory holds it, shared by every option that uses it.
#[derive(Debug)]
pub struct StoredPlan {
    pub hash: String,
    pub name: String,
    /// ISO 4217.
    pub currency: String,
    pub categories: Vec<Category>,
    /// Section codes, in plan order.
    pub sections: Vec<String>,
    pub layout: Arc<Layout>,
    labels: Labels,
    gzip: Bytes,
    json: OnceLock<Bytes>,
}

/// Labels of all seats in one piece of text.
#[derive(Debug, Default)]
struct Labels {
    text: String,
    /// Where each label ends.
    ends: Vec<u32>,
}

/// The canonical JSON without positions, borrowing from it.
#[derive(Deserialize)]
struct Outline<'a> {
    name: String,
    currency: String,
    categories: Vec<Category>,
    #[serde(borrow)]
    sections: Vec<SectionOutline<'a>>,
}

#[derive(Deserialize)]
struct SectionOutline<'a> {
    code: String,
    #[serde(borrow)]
    rows: Vec<RowOutline<'a>>,
}

#[derive(Deserialize)]
struct RowOutline<'a> {
    #[serde(borrow)]
    seats: Vec<SeatOutline<'a>>,
}

#[derive(Deserialize)]
struct SeatOutline<'a> {
    #[serde(borrow)]
    label: Cow<'a, str>,
    category: u8,
}

impl StoredPlan {
    /// Reads a stored plan. Takes tens of milliseconds for a stadium: not for an async thread.
    ///
    /// # Errors
    /// Not gzip, not a plan, or not the one of this hash.
    pub fn read(hash: &str, gzip: Bytes) -> Result<Self, PlanError> {
        let json = inflate(&gzip)?;
        let found = hash_of(&json);
        if found != hash {
            return Err(PlanError::new("plan", format!("its hash is {found}, not {hash}")));
        }
        let outline = outline(&json)?;
        let layout = outline.layout()?;
        let mut labels = Labels::default();
        for seat in outline.seats() {
            labels.push(&seat.label);
        }
        Ok(Self {
            hash: found,
            layout: Arc::new(layout),
            labels,
            name: outline.name,
            currency: outline.currency,
            categories: outline.categories,
            sections: outline.sections.into_iter().map(|section| section.code).collect(),
            gzip,
            json: OnceLock::new(),
        })
    }

    #[must_use]
    pub fn seat_count(&self) -> u32 {
        self.layout.seat_count()
    }

    /// The label of a seat; `None` outside the plan.
    #[must_use]
    pub fn label(&self, seat: SeatNo) -> Option<&str> {
        self.labels.get(seat.0 as usize)
    }

    /// The number of a seat; walks the labels.
    #[must_use]
    pub fn seat_no(&self, label: &str) -> Option<SeatNo> {
        (0..self.seat_count()).map(SeatNo).find(|seat| self.label(*seat) == Some(label))
    }

    /// The index of a section, by its code.
    #[must_use]
    pub fn section(&self, code: &str) -> Option<u16> {
        self.sections.iter().position(|section| section == code)?.try_into().ok()
    }

    /// The index of a category, by its name.
    #[must_use]
    pub fn category(&self, name: &str) -> Option<u8> {
        self.categories.iter().position(|category| category.name == name)?.try_into().ok()
    }

    /// The canonical JSON, compressed.
    #[must_use]
    pub fn gzip(&self) -> Bytes {
        self.gzip.clone()
    }

    /// The canonical JSON, for clients that take no gzip; inflated for the first of them and kept.
    #[must_use]
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| inflate(&self.gzip).expect("inflated before, by read").into()).clone()
    }
}

impl Labels {
    fn push(&mut self, label: &str) {
        self.text.push_str(label);
        self.ends.push(u32::try_from(self.text.len()).expect("labels are shorter than their JSON"));
    }

    fn get(&self, seat: usize) -> Option<&str> {
        let end = *self.ends.get(seat)? as usize;
        let start = seat.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.text[start..end])
    }
}

impl<'a> Outline<'a> {
    fn seats(&self) -> impl Iterator<Item = &SeatOutline<'a>> {
        self.sections.iter().flat_map(|section| &section.rows).flat_map(|row| &row.seats)
    }

    fn layout(&self) -> Result<Layout, PlanError> {
        let mut layout = LayoutBuilder::new(self.categories.iter().map(|category| category.price));
        for section in &self.sections {
            layout.section();
            for row in &section.rows {
                layout.run(row.seats.iter().map(|seat| seat.category));
            }
        }
        let layout = layout.0;
        layout.check().map_err(|error| PlanError::new("plan", format!("it is no layout: {error:?}")))?;
        Ok(layout)
    }
}

/// The layout of a stored plan, and nothing else of it: on the path of every restart.
///
/// # Errors
/// Not gzip, or not a plan.
pub fn layout(gzip: &[u8]) -> Result<Layout, PlanError> {
    outline(&inflate(gzip)?)?.layout()
}

fn outline(json: &[u8]) -> Result<Outline<'_>, PlanError> {
    serde_json::from_slice(json).map_err(|error| not_json(&error))
}
