//! The readers as tables: documents in, plans or named errors out.

use std::io::Write as _;

use engine::SeatNo;
use proptest::prelude::*;

use super::plan::{Category, Plan, Position, Row, Seat, Section};
use super::stored::{self, StoredPlan};
use super::{ReadOptions, read_plan};

const HALL: &str = include_str!("../../docs/examples/hall.pretix.json");
const CLUB: &str = include_str!("../../docs/examples/club.short.json");

fn options(prices: &[(&str, i64)], currency: Option<&str>) -> ReadOptions {
    ReadOptions {
        prices: prices.iter().map(|(name, price)| ((*name).to_owned(), *price)).collect(),
        currency: currency.map(str::to_owned),
    }
}

/// One line per stretch: `SECTION/ROW first..last xN category`.
fn sketch(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for section in &plan.sections {
        for row in &section.rows {
            let (first, last) = (row.seats.first().unwrap(), row.seats.last().unwrap());
            let category = &plan.categories[usize::from(first.category)];
            lines.push(format!(
                "{}/{} {}..{} x{} {} {}",
                section.code,
                row.label,
                first.label,
                last.label,
                row.seats.len(),
                category.name,
                category.price
            ));
        }
    }
    lines
}

/// The plan's sketch, then its warnings.
fn read(document: &str, options: &ReadOptions) -> String {
    match read_plan(document.as_bytes(), options) {
        Ok((plan, warnings)) => {
            let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
            sketch(&plan).into_iter().chain(warnings).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(document: &str, expected: &str) {
    assert_eq!(read(document, &ReadOptions::default()), expected, "{document}");
}

/// Puts seats `(number, x)` into section A, row 12 of a pretix plan.
fn pretix_row(seats: &[(&str, i32)]) -> String {
    let seats = seats.iter().enumerate().map(|(index, (number, x))| {
        format!(
            r#"{{"seat_guid":"g{index}","seat_number":"{number}","position":{{"x":{x},"y":0}},"category":"C"}}"#
        )
    });
    let seats = seats.collect::<Vec<_>>().join(",");
    pretix_zones(&format!(
        r#"[{{"name":"A","position":{{"x":0,"y":0}},"rows":[{{"row_number":"12","seats":[{seats}]}}]}}]"#
    ))
}

fn pretix_zones(zones: &str) -> String {
    format!(r#"{{"name":"P","categories":[{{"name":"C"}}],"zones":{zones}}}"#)
}

const FREE: &str = "warning: category \"C\" has no price; its seats cost 0\n\
                    warning: there is no currency; as nothing has a price, it is KRW";

#[test]
fn the_pretix_example() {
    let prices = options(&[("Premium", 90_000), ("Standard", 60_000)], Some("KRW"));
    let expected = "\
Stalls/1 Stalls-1-1..Stalls-1-5 x5 Premium 90000
Stalls/1 Stalls-1-6..Stalls-1-10 x5 Premium 90000
Stalls/2 Stalls-2-1..Stalls-2-5 x5 Premium 90000
Stalls/2 Stalls-2-6..Stalls-2-10 x5 Premium 90000
Stalls/3 Stalls-3-1..Stalls-3-5 x5 Standard 60000
Stalls/3 Stalls-3-6..Stalls-3-10 x5 Standard 60000
Stalls/4 Stalls-4-1..Stalls-4-5 x5 Standard 60000
Stalls/4 Stalls-4-6..Stalls-4-10 x5 Standard 60000
Balcony/1 Balcony-1-1..Balcony-1-12 x12 Standard 60000
Balcony/2 Balcony-2-1..Balcony-2-12 x12 Standard 60000";
    assert_eq!(read(HALL, &prices), expected);

    let (plan, _) = read_plan(HALL.as_bytes(), &prices).unwrap();
    assert_eq!((plan.name.as_str(), plan.currency.as_str()), ("Lantern Hall", "KRW"));
    let seat = plan.seat(plan.seat_no("Stalls-2-7").unwrap()).unwrap();
    assert_eq!(seat.position, Some(Position::new(75.0 + 240.0, 110.0 + 40.0)), "zone + row + seat");
}

#[test]
fn the_short_example() {
    let expected = "\
T/1 T-1-1..T-1-4 x4 Table 88000
T/1 T-1-5..T-1-8 x4 Table 88000
T/2 T-2-1..T-2-8 x8 Table 88000
FLOOR/GA FLOOR-1..FLOOR-60 x60 Standing 55000";
    assert_eq!(read(CLUB, &ReadOptions::default()), expected);
    let cheaper = options(&[("Standing", 44_000)], Some("EUR"));
    let (plan, warnings) = read_plan(CLUB.as_bytes(), &cheaper).unwrap();
    assert_eq!(
        (plan.categories[1].price, plan.currency.as_str()),
        (44_000, "EUR"),
        "the importer goes first"
    );
    assert_eq!(warnings, []);
}

#[test]
fn labels_follow_in_natural_order() {
    check(
        &pretix_row(&[("10", 90), ("2", 10), ("1", 0), ("3", 20), ("9", 80), ("11", 100)]),
        &format!("A/12 A-12-1..A-12-3 x3 C 0\nA/12 A-12-9..A-12-11 x3 C 0\n{FREE}"),
    );
    let row = |number: &str| {
        format!(
            r#"{{"row_number":"{number}","seats":[{{"seat_guid":"g{number}","seat_number":"1","position":{{"x":0,"y":0}},"category":"C"}}]}}"#
        )
    };
    let rows = ["row 10", "row 9", "AA", "row 1"].map(row).join(",");
    check(
        &pretix_zones(&format!(r#"[{{"name":"B","position":{{"x":0,"y":0}},"rows":[{rows}]}}]"#)),
        &format!(
            "B/AA B-AA-1..B-AA-1 x1 C 0\nB/row 1 B-row 1-1..B-row 1-1 x1 C 0\n\
             B/row 9 B-row 9-1..B-row 9-1 x1 C 0\nB/row 10 B-row 10-1..B-row 10-1 x1 C 0\n{FREE}"
        ),
    );
    check(
        r#"{"sections":[{"code":"A","rows":[{"label":"10","from":1,"to":2},{"label":9,"from":1,"to":1}]}]}"#,
        "A/9 A-9-1..A-9-1 x1 Standard 0\nA/10 A-10-1..A-10-2 x2 Standard 0\n\
         warning: category \"Standard\" has no price; its seats cost 0\n\
         warning: there is no currency; as nothing has a price, it is KRW",
    );
}

#[test]
fn what_pretix_does_not_require_is_made_up_with_a_warning() {
    let document = pretix_zones(
        r#"[{"position":{"x":0,"y":0},"uuid":"extra","rows":[{"row_number":"","row_label":{"deep":[1]},"seats":[
            {"seat_guid":"g","seat_number":"1","position":{"x":0.5,"y":-1},"category":"C","radius":10}]}]}]"#,
    );
    let expected = "Z1/R1 Z1-R1-1..Z1-R1-1 x1 C 0\n\
                    warning: category \"C\" has no price; its seats cost 0\n\
                    warning: there is no currency; as nothing has a price, it is KRW\n\
                    warning: /zones/0/name: there is no name; it is called Z1\n\
                    warning: /zones/0/rows/0/row_number: there is no name; it is called R1";
    check(&document, expected);
}

#[test]
fn pretix_plans_are_refused_by_place_and_reason() {
    let seat = r#""seat_number":"7","position":{"x":0,"y":0},"category":"C""#;
    let zone = |seats: &str| {
        pretix_zones(&format!(
            r#"[{{"name":"B","position":{{"x":0,"y":0}},"rows":[{{"row_number":"12","seats":[{seats}]}}]}}]"#
        ))
    };
    let rows: &[(String, &str)] = &[
        (pretix_row(&[("7", 0), ("8", 10), ("7", 20)]), "error: section A, row 12: seat A-12-7 stands twice"),
        (
            zone(&format!(r#"{{"seat_guid":"x",{seat}}},{{"seat_guid":"x",{}}}"#, seat.replace('7', "8"))),
            "error: section B, row 12: seat B-12-8: the seat_guid \"x\" stands twice (seat 2 in the file)",
        ),
        (
            zone(&format!(r#"{{"seat_guid":"x",{}}}"#, seat.replace("\"C\"", "\"D\""))),
            "error: section B, row 12: seat B-12-7: category \"D\" is not among the plan's categories (seat 1 in the file)",
        ),
        (
            zone(r#"{"seat_guid":"x","seat_number":"7","category":"C"}"#),
            "error: /zones/0/rows/0/seats/0: missing field `position` at line 1 column 172",
        ),
        (
            zone(&format!(r#"{{"seat_guid":5,{seat}}}"#)),
            "error: /zones/0/rows/0/seats/0/seat_guid: invalid type: integer `5`, expected a string at line 1 column 136",
        ),
        (
            zone(r#"{"seat_guid":"x","seat_number":"7","position":{"x":1e10,"y":0},"category":"C"}"#),
            "error: section B, row 12: seat B-12-7 lies at 1e10, 0e0, beyond ±1e9 (seat 1 in the file)",
        ),
        (pretix_zones("[]"), "error: plan: it has no seats"),
        (zone(""), "error: plan: it has no seats"),
        (r#"{"zones":[],"categories":[]}"#.into(), "error: line 1, column 28: missing field `name`"),
        (
            r#"{"name":"P","zones":{},"categories":[]}"#.into(),
            "error: /zones: invalid type: map, expected a sequence at line 1 column 20",
        ),
    ];
    for (document, expected) in rows {
        check(document, expected);
    }
}

#[test]
fn short_plans_are_refused_by_place_and_reason() {
    let rows: &[(String, &str)] = &[
        (r#"{"sections":[]}"#.into(), "error: plan: it has no seats"),
        (r#"{"sections":[{"code":"A","capacity":0}]}"#.into(), "error: section A (/sections/0): its capacity is 0"),
        (r#"{"sections":[{"code":"A","rows":[]}]}"#.into(), "error: plan: it has no seats"),
        (
            r#"{"sections":[{"code":"A","capacity":1},{"code":"B","rows":[]}]}"#.into(),
            "error: section B: it has no rows",
        ),
        (
            r#"{"sections":[{"code":"A"}]}"#.into(),
            "error: section A (/sections/0): it has neither rows nor a capacity",
        ),
        (
            r#"{"sections":[{"code":"A","rows":[],"capacity":3}]}"#.into(),
            "error: section A (/sections/0): it has both rows and a capacity",
        ),
        (
            r#"{"sections":[{"code":"A","capacity":1},{"code":"A","capacity":1}]}"#.into(),
            "error: section A: stands twice",
        ),
        (
            r#"{"sections":[{"code":"A","rows":[{"label":"1","from":1,"to":5},{"label":"1","from":5,"to":9}]}]}"#.into(),
            "error: section A, row 1: seat A-1-5 stands twice",
        ),
        (
            r#"{"sections":[{"code":"A","rows":[{"label":"1","from":5,"to":1}]}]}"#.into(),
            "error: section A, row 1: from 5 is above to 1",
        ),
        (
            r#"{"sections":[{"code":"A","rows":[{"label":"1","from":0,"to":4294967295}]}]}"#.into(),
            "error: plan: 4294967296 seats, at most 200000",
        ),
        (
            r#"{"sections":[{"code":"A","capacity":200001}]}"#.into(),
            "error: plan: 200001 seats, at most 200000",
        ),
    ];
    for (document, expected) in rows {
        check(document, expected);
    }
}

#[test]
fn short_plans_with_wrong_words_are_refused() {
    let many = |count: usize, one: fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    let rows: &[(String, &str)] = &[
        (
            r#"{"sections":[{"code":"A","capacity":1,"category":"VIP"}]}"#.into(),
            "error: section A (/sections/0): category \"VIP\" is not among the plan's categories",
        ),
        (
            r#"{"currency":"KRW","categories":[{"name":"a","price":1},{"name":"b","price":1}],"sections":[{"code":"A","capacity":1}]}"#.into(),
            "error: section A (/sections/0): it names no category, and the plan has 2",
        ),
        (
            r#"{"currency":"KRW","categories":[{"name":"a","price":1},{"name":"a","price":1}],"sections":[{"code":"A","capacity":1,"category":"a"}]}"#.into(),
            "error: category \"a\": stands twice",
        ),
        (
            r#"{"currency":"KRW","categories":[{"name":"a","price":-1}],"sections":[{"code":"A","capacity":1}]}"#.into(),
            "error: category \"a\": the price -1 is not between 0 and 1125899906842623",
        ),
        (
            r#"{"categories":[{"name":"a","price":1}],"sections":[{"code":"A","capacity":1}]}"#.into(),
            "error: currency: there are prices, but no currency such as KRW",
        ),
        (
            r#"{"currency":"won","sections":[{"code":"A","capacity":1}]}"#.into(),
            "error: currency: \"won\" is no ISO 4217 code: three capital letters such as KRW",
        ),
        (
            r#"{"sections":[{"code":"A","capacity":1,"colour":"red"}]}"#.into(),
            "error: /sections/0/colour: unknown field `colour`, expected one of `code`, `rows`, `capacity`, `category` at line 1 column 46",
        ),
        (
            r#"{"sections":[{"code":" A","capacity":1}]}"#.into(),
            "error: section  A: \" A\" has control characters or white space around it",
        ),
        (r#"{"sections":[{"code":"","capacity":1}]}"#.into(), "error: section : is empty"),
        (
            format!(r#"{{"sections":[{}]}}"#, many(4_097, |i| format!(r#"{{"code":"S{i}","capacity":1}}"#))),
            "error: sections: 4097 sections, at most 4096",
        ),
        (
            format!(
                r#"{{"categories":[{}],"sections":[{{"code":"A","capacity":1}}]}}"#,
                many(256, |i| format!(r#"{{"name":"c{i}"}}"#))
            ),
            "error: categories: 256 categories, at most 255",
        ),
    ];
    for (document, expected) in rows {
        check(document, expected);
    }
}

#[test]
fn what_is_no_plan_is_refused_by_place_and_reason() {
    check("", "error: line 1, column 1: expected a JSON object, the seating plan");
    check("[]", "error: line 1, column 1: expected a JSON object, the seating plan");
    check("{}", "error: file: it has neither `zones` (pretix) nor `sections` (short form)");
    check(
        r#"{"zones":[],"sections":[]}"#,
        "error: file: it has both `zones` (pretix) and `sections` (short form)",
    );
    check("{\n  \"sections\": [\n}", "error: line 3, column 1: expected value");
    check(
        &format!("{{\"x\":\n{}", "[".repeat(100_000)),
        "error: line 2, column 32: nested deeper than 32 levels",
    );
    let none = ReadOptions::default();
    let error = read_plan(b"{\"sections\":\n[\"\xff\"]}", &none).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 3: not UTF-8");
    let error = read_plan(&vec![b' '; super::read::INPUT_MAX + 1], &none).unwrap_err();
    assert_eq!(error.to_string(), "file: 67108865 bytes, at most 67108864");
    let marked = format!("\u{feff}{CLUB}");
    assert_eq!(read(&marked, &none), read(CLUB, &none), "a byte order mark changes nothing");
    assert_eq!(
        read(CLUB, &options(&[("Balcony", 5)], None)),
        "error: price of \"Balcony\": the plan has no such category; it has \"Table\", \"Standing\""
    );
    assert_eq!(
        read(CLUB, &options(&[("Table", -5)], None)),
        "error: category \"Table\": the price -5 is not between 0 and 1125899906842623"
    );
    assert_eq!(
        read(CLUB, &options(&[], Some("K"))),
        "error: currency: \"K\" is no ISO 4217 code: three capital letters such as KRW"
    );
}

/// Stored plans are found by their hash, so the bytes may never change.
#[test]
fn the_canonical_form_is_pinned() {
    let plan = Plan {
        name: "P".to_owned(),
        currency: "KRW".to_owned(),
        categories: vec![Category { name: "C".to_owned(), price: 5 }],
        sections: vec![Section {
            code: "A".to_owned(),
            rows: vec![Row {
                label: "1".to_owned(),
                seats: vec![
                    Seat {
                        label: "A-1-1".to_owned(),
                        category: 0,
                        position: Some(Position::new(1.0, -0.001)),
                    },
                    Seat { label: "A-1-2".to_owned(), category: 0, position: None },
                ],
            }],
        }],
    };
    let json = r#"{"name":"P","currency":"KRW","categories":[{"name":"C","price":5}],"sections":[{"code":"A","rows":[{"label":"1","seats":[{"label":"A-1-1","category":0,"position":{"x":1.0,"y":0.0}},{"label":"A-1-2","category":0}]}]}]}"#;
    assert_eq!(String::from_utf8(plan.to_json()).unwrap(), json);
    assert_eq!(plan.hash(), "f6191c7c1860545164b0ee538a2d0d5d51e2d6e8d677105509eb768b4cd3e25c");
}

#[test]
fn a_stored_plan_says_what_the_plan_says() {
    let (plan, _) = read_plan(CLUB.as_bytes(), &ReadOptions::default()).unwrap();
    let gzip = plan.to_gzip();
    assert_eq!(stored::layout(&gzip).unwrap(), plan.layout());
    let stored = StoredPlan::read(&plan.hash(), gzip.clone().into()).unwrap();
    assert_eq!(*stored.layout, plan.layout());
    assert_eq!(stored.json(), plan.to_json());
    assert_eq!((stored.section("FLOOR"), stored.section("X")), (Some(1), None));
    assert_eq!((stored.category("Standing"), stored.category("X")), (Some(1), None));
    for (no, seat) in (0..).map(SeatNo).zip(plan.seats()) {
        assert_eq!(stored.label(no), Some(seat.label.as_str()));
        assert_eq!((stored.seat_no(&seat.label), plan.seat_no(&seat.label)), (Some(no), Some(no)));
    }
    assert_eq!(stored.label(SeatNo(plan.seat_count())), None);
    let error = StoredPlan::read("00", gzip.into()).unwrap_err();
    assert!(error.to_string().starts_with("plan: its hash is "), "{error}");
}

#[test]
fn a_gzip_bomb_does_not_go_off() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..200 {
        bomb.write_all(&zeros).unwrap();
    }
    let error = Plan::from_gzip(&bomb.finish().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "gzip: more than 134217728 bytes inside");
    assert!(Plan::from_gzip(b"not gzip").is_err());
    assert!(stored::layout(&[]).is_err());
}

/// A piece of a document, wrong or right, for [`mangled`].
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null"),
        Just("-1"),
        Just("1e308"),
        Just("18446744073709551616"),
        Just("\"\""),
        Just("[]"),
        Just("{}"),
        Just("\""),
        Just("}"),
        Just("]"),
        Just(","),
        Just("\\u0000"),
        Just("\\ud800"),
        Just("Stalls"),
        Just("1"),
        Just("zones"),
        Just("sections"),
        Just("\u{0}"),
        Just("\"x\":1e999,"),
    ]
    .prop_map(str::to_owned)
}

/// One of the examples with some bytes replaced by fragments.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any::<prop::sample::Index>(), 0usize..40, prop_oneof![fragment(), "\\PC{0,3}"]);
    (prop::bool::ANY, prop::collection::vec(cut, 1..6), prop::option::of(any::<prop::sample::Index>()))
        .prop_map(|(pretix, cuts, broken)| {
            let mut document = if pretix { HALL } else { CLUB }.as_bytes().to_vec();
            for (at, length, with) in cuts {
                let start = at.index(document.len() + 1);
                let end = (start + length).min(document.len());
                document.splice(start..end, with.into_bytes());
            }
            if let Some(at) = broken.filter(|_| !document.is_empty()) {
                let at = at.index(document.len());
                document[at] ^= 0x80;
            }
            document
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Whatever comes in, there is no panic, and what is accepted is sound and survives storage.
    #[test]
    fn any_bytes_are_a_sound_plan_or_an_error(document in mangled()) {
        if let Ok((plan, _)) = read_plan(&document, &ReadOptions::default()) {
            prop_assert_eq!(plan.layout().check(), Ok(()));
            let back = Plan::from_gzip(&plan.to_gzip()).unwrap();
            prop_assert_eq!(back.hash(), plan.hash());
        }
    }

    /// Positions come back to the last bit, or hashes would change between import and restart.
    #[test]
    fn positions_survive_storage(points in prop::collection::vec((-1e9..=1e9f64, -1e3..1e3f64), 1..50)) {
        let seats = points.iter().enumerate().map(|(index, (x, y))| Seat {
            label: index.to_string(),
            category: 0,
            position: Some(Position::new(*x, *y)),
        });
        let plan = Plan {
            name: "P".to_owned(),
            currency: "KRW".to_owned(),
            categories: vec![Category { name: "C".to_owned(), price: 0 }],
            sections: vec![Section {
                code: "A".to_owned(),
                rows: vec![Row { label: "1".to_owned(), seats: seats.collect() }],
            }],
        };
        let back = Plan::from_gzip(&plan.to_gzip());
        prop_assert_eq!(back, Ok(plan));
    }
}
