//! Drawings, written by hand: a line is a line, and nothing has to be loaded to see it.
//!
//! A drawing is made for a width, since text must stay as large as it is: the page holds one for a desk and one for a
//! phone and shows the one that fits.

mod axis;
mod bars;
mod capacity;
mod drawing;
mod gate;
mod percentiles;
mod plot;
mod time;

use super::model::{Report, Scenario};

pub use bars::panel;
pub use capacity::{by_rate, by_users};
pub use drawing::{Drawing, escape, style};
pub use gate::at_gate;
pub use percentiles::{busiest, fanout, latency};
pub use time::over_time;

/// Room for a drawing, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
}

pub const DESK: Frame = Frame { width: 680.0, height: 360.0 };
pub const PHONE: Frame = Frame { width: 328.0, height: 300.0 };

/// Every drawing that there is something to draw for, with the names of their files.
pub fn files(report: &Report) -> Vec<(String, String)> {
    let mut drawings = Vec::new();
    for (name, scenario) in super::names(report).into_iter().zip(&report.scenarios) {
        drawings
            .extend(of(scenario, DESK).into_iter().map(|(what, found)| (format!("{name}-{what}"), found)));
    }
    if let Some(capacity) = &report.capacity {
        drawings.extend(by_users(capacity, DESK).map(|found| ("capacity-users".to_owned(), found)));
        drawings.extend(by_rate(capacity, DESK).map(|found| ("capacity-rate".to_owned(), found)));
    }
    let comparison = report.comparison.as_ref().and_then(bars::all);
    drawings.extend(comparison.map(|found| ("comparison".to_owned(), found)));
    drawings.into_iter().map(|(name, drawing)| (format!("{name}.svg"), drawing.standalone())).collect()
}

/// Of one scenario, by what they show.
fn of(scenario: &Scenario, frame: Frame) -> Vec<(&'static str, Drawing)> {
    let drawings = [
        ("latency", latency(scenario, frame)),
        ("over-time", over_time(scenario, frame)),
        ("fanout", fanout(scenario, frame)),
        ("gate", at_gate(scenario, frame)),
    ];
    drawings.into_iter().filter_map(|(what, drawing)| Some((what, drawing?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn every_drawing_is_well_formed_and_has_a_name() {
        let drawings = files(&example::report());
        assert_eq!(drawings.len(), 9);
        for (name, text) in drawings {
            let document =
                roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let root = document.root_element();
            assert_eq!(root.tag_name().name(), "svg", "{name}");
            for needed in ["title", "desc"] {
                let found = root.children().find(|child| child.has_tag_name(needed));
                let text = found.and_then(|child| child.text()).unwrap_or_default();
                assert!(!text.is_empty(), "{name} has no {needed}");
            }
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let mut report = example::report();
        let evil = "</style><script>alert(1)</script>\u{0}\u{1b}]]>&\"'";
        report.scenarios[0].name = evil.to_owned();
        report.scenarios[0].runs[0].operations[1].name = evil.to_owned();
        report.scenarios[0].runs[1].operations[1].name = evil.to_owned();
        let comparison = report.comparison.as_mut().unwrap();
        comparison.loads[0].name = evil.to_owned();
        comparison.contenders[0].name = evil.to_owned();
        for (name, text) in files(&report) {
            let document =
                roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(document.descendants().all(|node| !node.has_tag_name("script")), "{name}");
        }
    }

    #[test]
    fn little_or_odd_data_has_drawings_without_odd_numbers() {
        assert!(files(&example::nothing()).is_empty());
        for report in example::odd() {
            for (name, text) in files(&report) {
                roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(!text.contains("NaN") && !text.contains("inf"), "{name}: {text}");
            }
        }
    }
}
