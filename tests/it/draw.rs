//! `hotseat draw verify`, on records as the server publishes them, whole and tampered with.

use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::draws::{BEACON, committed, drawn, frozen};
use crate::api::world::World;
use crate::support::{Place, Ran, hotseat, run};

/// What the server says of a draw in its last stage, and to user 105.
async fn published(beacon: bool) -> (Value, Value) {
    let world = World::start().await;
    world.save(&drawn(beacon, beacon.then_some(BEACON))).await;
    let record = world.record("DRAWN").await;
    let entry = world.user(105).get("/api/v1/draws/1/entry").await.expect(200).body;
    world.stop().await;
    (record, entry)
}

fn verify(place: &Place, record: &Value, entry: Option<&Value>) -> Ran {
    let record = place.file("draw.json", &record.to_string());
    match entry {
        None => run(&["draw", "verify", &record]),
        Some(entry) => {
            let entry = place.file("mine.json", &entry.to_string());
            run(&["draw", "verify", &record, "--entry", &entry])
        }
    }
}

#[tokio::test]
async fn a_draw_that_was_fair_checks_out() {
    let (record, entry) = published(true).await;
    let place = Place::new();
    let said = verify(&place, &record, Some(&entry)).success();
    let round = record["round"]["round"].to_string();
    for part in [
        "trust: beacon",
        "entrants    11",
        "order       recomputed, and the same",
        &format!("that round {round} said"),
        &"be".repeat(32),
        "user 105, turn 15: leaf 5",
        &format!("place       {} of 11", entry["place"]),
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(said.trim_end().lines().last().unwrap().starts_with("Compare that with the beacon"), "{said}");
    assert!(!said.contains("?no="), "{said}");
    let (record, _) = published(false).await;
    let said = verify(&place, &record, None).success();
    assert!(said.contains("trust: operator-trusted") && !said.contains("trust: beacon"), "{said}");
}

#[tokio::test]
async fn a_round_that_was_given_up_is_said_so() {
    let world = World::start().await;
    world.save(&drawn(true, None)).await;
    let mut record = world.record("DRAWN").await;
    world.stop().await;
    let place = Place::new();
    let said = verify(&place, &record, None).success();
    let round = record["round"]["round"].to_string();
    for part in
        ["trust: operator-trusted", &format!("Round {round} was named and given up"), "whether\nthe round"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    record["no"] = json!(3);
    let said = verify(&place, &record, None).success();
    assert!(said.contains("draw 3") && said.contains("?no=2"), "{said}");
}

#[tokio::test]
async fn what_was_tampered_with_is_named() {
    let (record, _) = published(true).await;
    let place = Place::new();
    let other = json!("5a".repeat(32));
    let bytes = |field: &str| STANDARD.decode(record[field].as_str().unwrap()).unwrap();
    let mut leaves = bytes("leaves");
    leaves[40] ^= 1;
    let mut order = bytes("order");
    order.rotate_left(4);
    let fewer = STANDARD.encode(&bytes("leaves")[32..]);
    let rows: &[(&str, Value, &str)] = &[
        ("/concertId", json!(2), "seed: is not the one"),
        ("/commitment", other.clone(), "seed: is not the one"),
        ("/commitment", json!("5a"), "commitment: expected 64 hex digits"),
        ("/committedAt", json!("2027-05-01T10:00:01Z"), "committedAt: is after the root"),
        ("/committedAt", json!("yesterday"), "committedAt: expected an instant"),
        ("/root", other.clone(), "root: is not that of `leaves`"),
        ("/rootPublishedAt", json!("2027-05-01T10:01:00Z"), "round.dueAt: is not after"),
        ("/entrants", json!(12), "entrants: says 12, but there are 11"),
        ("/leaves", json!(STANDARD.encode(&leaves)), "root: is not that of `leaves`"),
        ("/leaves", json!(fewer), "entrants: says 11, but there are 10"),
        ("/leaves", json!("AAAA"), "leaves: has 3 bytes"),
        ("/leaves", json!("!"), "leaves: is not Base64"),
        ("/round/round", json!(7), "order: is not what follows"),
        ("/round/dueAt", json!("2027-05-01T10:00:00Z"), "round.dueAt: is not after"),
        ("/round/dueAt", json!("2027-05-01T11:00:00Z"), "drawnAt: is before the round was due"),
        ("/round", json!(null), "order: is not what follows"),
        ("/round", json!(4), "round: expected an object"),
        ("/drawnAt", json!("2027-05-01T10:00:01Z"), "drawnAt: is before the round"),
        ("/seed", other.clone(), "seed: is not the one"),
        ("/beacon", other.clone(), "order: is not what follows"),
        ("/beacon", json!(null), "order: is not what follows"),
        ("/order", json!(STANDARD.encode(&order)), "order: is not what follows"),
        ("/order", json!(""), "order: is not what follows"),
        ("/trust", json!("operator-trusted"), "trust: says"),
        ("/stage", json!("SETTLED"), "stage: expected"),
        ("/no", json!("1"), "no: expected a whole number"),
    ];
    for (pointer, value, complaint) in rows {
        let mut tampered = record.clone();
        *tampered.pointer_mut(pointer).unwrap() = value.clone();
        let said = verify(&place, &tampered, None).failure(1);
        assert!(said.contains(complaint), "{pointer}: {complaint:?} is not in {said:?}");
    }
    for field in record.as_object().unwrap().keys() {
        let mut without = record.clone();
        without.as_object_mut().unwrap().remove(field);
        let said = verify(&place, &without, None).failure(1);
        // A beacon that is not there was none.
        let complaint = if field == "beacon" { "order: " } else { &format!("{field}: is missing") };
        assert!(said.contains(complaint), "{field}: {said:?}");
    }
}

#[tokio::test]
async fn an_entry_that_was_tampered_with_is_named() {
    let (record, entry) = published(true).await;
    let place = Place::new();
    let other = json!("5a".repeat(32));
    let rows: &[(&str, Value, &str)] = &[
        ("/concertId", json!(2), "concertId: draw 1 of concert 2"),
        ("/no", json!(2), "concertId: draw 2 of concert 1"),
        ("/userId", json!(106), "leaf: is not that of"),
        ("/turn", json!(16), "leaf: is not that of"),
        ("/salt", json!("5a".repeat(16)), "leaf: is not that of"),
        ("/leaf", other.clone(), "leaf: is not that of"),
        ("/index", json!(6), "index: the record has another leaf"),
        ("/index", json!(11), "index: the record has another leaf"),
        ("/root", other.clone(), "root: is not the record's"),
        ("/proof/0", other.clone(), "proof: does not lead"),
        ("/proof", json!([]), "proof: does not lead"),
        ("/proof", json!([7]), "proof: expected digests"),
        ("/place", json!(99), "place: says 99"),
    ];
    for (pointer, value, complaint) in rows {
        let mut tampered = entry.clone();
        *tampered.pointer_mut(pointer).unwrap() = value.clone();
        let said = verify(&place, &record, Some(&tampered)).failure(1);
        assert!(said.contains(complaint), "entry {pointer}: {complaint:?} is not in {said:?}");
    }
}

#[test]
fn what_is_no_record_is_said_so() {
    let place = Place::new();
    for (text, complaint) in
        [("", "is not JSON"), ("[]", "expected a JSON object"), ("{}", "stage: is missing")]
    {
        let file = place.file("draw.json", text);
        let said = run(&["draw", "verify", &file]).failure(1);
        assert!(said.contains(complaint) && said.contains("draw.json"), "{text}: {said}");
    }
    assert!(run(&["draw", "verify", "/nowhere/draw.json"]).failure(1).contains("/nowhere/draw.json"));
    assert!(run(&["draw", "verify", "http://127.0.0.1:1/x"]).failure(1).contains("127.0.0.1:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_read_from_its_url_and_from_standard_input() {
    let world = World::start().await;
    let url = format!("{}/api/v1/draws/1", world.public_url());
    let verify = async |source: String| {
        tokio::task::spawn_blocking(move || run(&["draw", "verify", &source])).await.unwrap()
    };
    let said = verify(url.clone()).await.failure(1);
    assert!(said.contains("NO_DRAW"), "{said}");
    world.save(&committed()).await;
    world.record("COMMITTED").await;
    assert!(verify(url.clone()).await.failure(1).contains("nothing is drawn yet"));
    world.save(&frozen(true)).await;
    world.record("FROZEN").await;
    let ran = verify(url.clone()).await;
    assert!(ran.out.contains("11: the root is theirs"), "{ran:?}");
    ran.failure(1);
    world.save(&drawn(true, Some(BEACON))).await;
    let record = world.record("DRAWN").await;
    assert!(verify(url).await.success().contains("trust: beacon"));
    world.stop().await;

    let place = Place::new();
    let file = std::fs::File::open(place.file("draw.json", &record.to_string())).unwrap();
    let output = hotseat().args(["draw", "verify", "-"]).stdin(Stdio::from(file)).output().unwrap();
    assert!(Ran::of(output).success().contains("trust: beacon"));
}

/// The page is said to be enough: its Python, as it stands, comes to the same.
#[tokio::test]
async fn the_pages_python_agrees() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no python3, so that the page docs/draw.md was NOT run");
        return;
    }
    let page = include_str!("../../docs/draw.md");
    let blocks = page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let code: String = blocks.collect();
    let place = Place::new();
    let script =
        place.file("check.py", &format!("{code}\nimport sys\nprint(check(load(open(sys.argv[1]))))\n"));
    let python = |record: &Value| {
        let record = place.file("draw.json", &record.to_string());
        Ran::of(Command::new("python3").args([&script, &record]).output().unwrap())
    };
    for beacon in [true, false] {
        let (record, _) = published(beacon).await;
        assert_eq!(python(&record).success().trim(), record["trust"].as_str().unwrap());
        for field in ["commitment", "root", "seed"] {
            let mut tampered = record.clone();
            tampered[field] = json!("5a".repeat(32));
            python(&tampered).failure(1);
        }
        let mut tampered = record.clone();
        tampered["order"] = json!(STANDARD.encode(0_u32.to_be_bytes().repeat(11)));
        python(&tampered).failure(1);
    }
}
