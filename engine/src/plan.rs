//! The static layout of an option, as much of it as a rule needs. Labels and positions stay outside.

use crate::ids::SeatNo;
use crate::limits::{CATEGORIES_PER_PLAN, SEATS_PER_OPTION, SECTIONS_PER_PLAN};

/// Seats in plan order, best first, so that a seat's number is also its rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The price category of each seat; its length is the number of seats.
    pub categories: Vec<u8>,
    /// Runs of seats with nobody and nothing between them, in seat order, covering every seat.
    /// A row with an aisle is two runs.
    pub runs: Vec<Run>,
    /// The first seat of each section, ascending; a section ends where the next begins.
    pub sections: Vec<SeatNo>,
    /// The price of each category, in minor units of the option's currency.
    pub prices: Vec<i64>,
}

/// Seats `first..first + seats` sit side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: SeatNo,
    pub seats: u32,
}

/// Why a layout is no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    Empty,
    TooManySeats(usize),
    TooManyCategories(usize),
    TooManySections(usize),
    CategoryUnknown {
        seat: SeatNo,
        category: u8,
    },
    PriceNegative {
        category: usize,
    },
    /// Runs leave a gap, overlap, are empty or miss the end.
    RunsBroken {
        run: usize,
    },
    /// Sections are not ascending, or the first does not begin at seat 0.
    SectionsBroken {
        section: usize,
    },
}

impl Layout {
    /// How many seats the option has.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "check() bounds the length")]
    pub fn seat_count(&self) -> u32 {
        self.categories.len() as u32
    }

    /// The half-open range of seat numbers of a section.
    #[must_use]
    pub fn section_range(&self, section: u16) -> Option<std::ops::Range<u32>> {
        let first = self.sections.get(usize::from(section))?.0;
        let end = self.sections.get(usize::from(section) + 1).map_or(self.seat_count(), |s| s.0);
        Some(first..end)
    }

    /// Everything the shard relies on.
    ///
    /// # Errors
    /// The first rule the layout breaks.
    pub fn check(&self) -> Result<(), LayoutError> {
        let seats = self.categories.len();
        if seats == 0 {
            return Err(LayoutError::Empty);
        }
        if seats > SEATS_PER_OPTION as usize {
            return Err(LayoutError::TooManySeats(seats));
        }
        if self.prices.len() > CATEGORIES_PER_PLAN {
            return Err(LayoutError::TooManyCategories(self.prices.len()));
        }
        if self.sections.len() > SECTIONS_PER_PLAN {
            return Err(LayoutError::TooManySections(self.sections.len()));
        }
        if let Some(category) = self.prices.iter().position(|price| *price < 0) {
            return Err(LayoutError::PriceNegative { category });
        }
        for (seat, category) in (0..).map(SeatNo).zip(&self.categories) {
            if usize::from(*category) >= self.prices.len() {
                return Err(LayoutError::CategoryUnknown { seat, category: *category });
            }
        }
        self.check_runs()?;
        self.check_sections()
    }

    fn check_runs(&self) -> Result<(), LayoutError> {
        let mut next = 0u64;
        for (index, run) in self.runs.iter().enumerate() {
            if u64::from(run.first.0) != next || run.seats == 0 {
                return Err(LayoutError::RunsBroken { run: index });
            }
            next += u64::from(run.seats);
        }
        if next == self.categories.len() as u64 {
            Ok(())
        } else {
            Err(LayoutError::RunsBroken { run: self.runs.len() })
        }
    }

    fn check_sections(&self) -> Result<(), LayoutError> {
        let mut bound = None;
        for (index, first) in self.sections.iter().enumerate() {
            let in_order = bound.map_or(first.0 == 0, |previous| first.0 > previous);
            if !in_order || first.0 >= self.seat_count() {
                return Err(LayoutError::SectionsBroken { section: index });
            }
            bound = Some(first.0);
        }
        if bound.is_none() { Err(LayoutError::SectionsBroken { section: 0 }) } else { Ok(()) }
    }
}
