//! Three invented concerts for whoever wants to see something: a hall, an arena, a stadium.

use std::f64::consts::PI;
use std::sync::Arc;

use engine::Time;

use super::plan::{Category, Plan, Position, Row, Seat, Section};
use super::{Catalogue, CatalogueError, Import, Imported};

/// The distance between neighbours; rows lie a little further apart.
const SEAT: f64 = 10.0;
const ROW: f64 = 12.0;

/// Imports the three concerts.
///
/// # Errors
/// The catalogue takes no imports now. What was imported before stays.
pub async fn fill(catalogue: &dyn Catalogue) -> Result<Vec<Imported>, CatalogueError> {
    let mut imported = Vec::new();
    for import in concerts() {
        imported.push(catalogue.import(&import).await?);
    }
    Ok(imported)
}

/// The imports, from small to large. The stadium gets a shard of its own, as a hot concert would.
#[must_use]
pub fn concerts() -> Vec<Import> {
    let concert = |title: &str, starts_at: &str, plan: Plan, own_shard: bool| {
        let starts_at: jiff::Timestamp = starts_at.parse().expect("an instant written above");
        Import {
            title: title.to_owned(),
            starts_at: Time(starts_at.as_microsecond()),
            plan: Arc::new(plan),
            own_shard,
        }
    };
    vec![
        concert("Paper Lanterns, an Evening for Strings", "2027-03-20T19:30:00+09:00", hall(), false),
        concert("Neon Tides: Arena Night", "2027-05-01T19:00:00+09:00", arena(), false),
        concert("The Long Echo: Stadium Finale", "2027-08-14T18:00:00+09:00", stadium(), true),
    ]
}

/// 50 seats in five gently curved rows.
#[must_use]
pub fn hall() -> Plan {
    let rows = (0..5u32).map(|row| {
        straight_row("H", row + 1, 10, u8::from(row >= 2), |seat| {
            let x = (f64::from(seat) - 4.5) * SEAT;
            (x, 40.0 + f64::from(row) * ROW - x * x / 400.0)
        })
    });
    let sections = vec![Section { code: "H".to_owned(), rows: rows.collect() }];
    plan("Chamber hall", &[("Front", 60_000), ("Rear", 45_000)], sections)
}

/// 12,000 seats: six blocks on the floor before the stage, and two rings of stands around them, open
/// towards the stage.
#[must_use]
pub fn arena() -> Plan {
    let mut sections = floor(6, 3, 20, 25, |block| u8::from(block >= 3));
    let open = Ring { sections: 20, rows: 15, seats: 20, from: -PI / 3.0, to: 4.0 * PI / 3.0, radius: 850.0 };
    sections.extend(open.stand("L", 2));
    sections.extend(Ring { rows: 10, seats: 15, radius: 1_110.0, ..open }.stand("U", 3));
    let categories = [("Floor, front", 198_000), ("Floor", 176_000), ("Lower", 154_000), ("Upper", 110_000)];
    plan("Harbour Arena", &categories, sections)
}

/// 100,000 seats: eight blocks on the pitch and two closed rings.
#[must_use]
pub fn stadium() -> Plan {
    let mut sections = floor(8, 4, 25, 40, |block| u8::from(block >= 4));
    let closed =
        Ring { sections: 40, rows: 30, seats: 30, from: PI / 2.0, to: 5.0 * PI / 2.0, radius: 2_100.0 };
    sections.extend(closed.stand("L", 2));
    sections.extend(Ring { rows: 35, seats: 40, radius: 2_560.0, ..closed }.stand("U", 3));
    let categories = [("Pitch, front", 220_000), ("Pitch", 187_000), ("Lower", 154_000), ("Upper", 99_000)];
    plan("Meridian Stadium", &categories, sections)
}

/// Blocks `F1`, `F2`, … of straight rows, `across` side by side, the first ones next to the stage, which
/// lies at the top. The whole is centred on the origin.
fn floor(blocks: u32, across: u32, rows: u32, seats: u32, category: impl Fn(u32) -> u8) -> Vec<Section> {
    let width = f64::from(seats) * SEAT + 3.0 * SEAT;
    let depth = f64::from(rows) * ROW + 3.0 * ROW;
    let left = -f64::from(across) * width / 2.0;
    let top = -f64::from(blocks / across) * depth / 2.0;
    let block = |block: u32| {
        let code = format!("F{}", block + 1);
        let (x, y) = (left + f64::from(block % across) * width, top + f64::from(block / across) * depth);
        let rows = (0..rows).map(|row| {
            straight_row(&code, row + 1, seats, category(block), |seat| {
                (x + (f64::from(seat) + 2.0) * SEAT, y + f64::from(row) * ROW)
            })
        });
        Section { rows: rows.collect(), code: code.clone() }
    };
    (0..blocks).map(block).collect()
}

/// Equal sections side by side on an oval around the origin, an aisle between them.
#[derive(Clone, Copy)]
struct Ring {
    sections: u32,
    rows: u32,
    /// Per row of a section.
    seats: u32,
    /// Angles in radians, clockwise from the right, where the ring begins and ends.
    from: f64,
    to: f64,
    /// Of the first row, across; the oval is a quarter longer than wide.
    radius: f64,
}

impl Ring {
    fn stand(self, prefix: &str, category: u8) -> impl Iterator<Item = Section> + '_ {
        (0..self.sections).map(move |section| {
            let code = format!("{prefix}{}", section + 1);
            let rows = (0..self.rows).map(|row| {
                straight_row(&code, row + 1, self.seats, category, |seat| self.place(section, row, seat))
            });
            Section { rows: rows.collect(), code: code.clone() }
        })
    }

    fn place(self, section: u32, row: u32, seat: u32) -> (f64, f64) {
        let wedge = (self.to - self.from) / f64::from(self.sections);
        // A seat's width stays free at both ends of a section: together they are the aisle.
        let within = (f64::from(seat) + 1.5) / f64::from(self.seats + 2);
        let angle = self.from + wedge * (f64::from(section) + within);
        let radius = self.radius + f64::from(row) * ROW;
        (radius * 1.25 * angle.cos(), radius * angle.sin())
    }
}

/// A row of seats 1 to `seats` at the places that `place` gives for 0, 1, ….
fn straight_row(code: &str, row: u32, seats: u32, category: u8, place: impl Fn(u32) -> (f64, f64)) -> Row {
    let seat = |number: u32| {
        let (x, y) = place(number);
        // Tenths are finer than anybody draws, and keep the JSON short.
        let tenths = |c: f64| (c * 10.0).round() / 10.0;
        Seat {
            label: format!("{code}-{row}-{}", number + 1),
            category,
            position: Some(Position::new(tenths(x), tenths(y))),
        }
    };
    Row { label: row.to_string(), seats: (0..seats).map(seat).collect() }
}

fn plan(name: &str, categories: &[(&str, i64)], sections: Vec<Section>) -> Plan {
    let categories =
        categories.iter().map(|(name, price)| Category { name: (*name).to_owned(), price: *price });
    Plan { name: name.to_owned(), currency: "KRW".to_owned(), categories: categories.collect(), sections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_the_promised_sizes() {
        let concerts = concerts();
        let sizes: Vec<u32> = concerts.iter().map(|import| import.plan.seat_count()).collect();
        assert_eq!(sizes, [50, 12_000, 100_000]);
        for import in &concerts {
            import.plan.check().unwrap();
            import.plan.layout().check().unwrap();
        }
        assert_eq!(concerts.iter().map(|import| import.own_shard).collect::<Vec<_>>(), [false, false, true]);
    }

    /// Two seats in one place would be drawn as one.
    #[test]
    fn no_seat_lies_on_another() {
        for import in concerts() {
            let mut places: Vec<_> = import.plan.seats().filter_map(|seat| seat.position).collect();
            assert_eq!(places.len(), import.plan.seat_count() as usize, "{}", import.title);
            places.sort_by(|a, b| a.x.total_cmp(&b.x));
            for (at, one) in places.iter().enumerate() {
                let near = places[at + 1..].iter().take_while(|other| other.x - one.x < 5.0);
                for other in near {
                    let apart = (one.x - other.x).hypot(one.y - other.y);
                    assert!(apart >= 5.0, "{}: {one:?} and {other:?} are {apart} apart", import.title);
                }
            }
        }
    }
}
