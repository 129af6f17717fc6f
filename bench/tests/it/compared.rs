//! The comparison and the search for the knee, in a small form.

use serde_json::Value;

use crate::support::{among_others, report, run, server_binary};

/// What a comparison in the small says on its way, and its part of the report.
fn compare(args: &[&str]) -> (String, Value) {
    let _others = among_others();
    let dir = tempfile::tempdir().unwrap();
    let binary = server_binary();
    let here = ["--out", dir.path().to_str().unwrap(), "--hotseat", binary.to_str().unwrap()];
    let ran = run(&[&["compare", "--connections", "8"][..], args, &here].concat());
    let said = ran.err.clone();
    ran.passed();
    (said, report(dir.path())["comparison"].clone())
}

#[test]
fn ways_of_selling_are_compared_and_hotseat_does_nothing_wrong() {
    let args =
        ["--only", "pessimistic,redis-setnx,hotseat", "--rounds", "1", "--time", "0.3", "--seats", "1000"];
    let (_, comparison) = compare(&args);
    let loads = comparison["loads"].as_array().unwrap();
    assert_eq!(loads.len(), 6, "{comparison}");
    for load in loads {
        for result in load["results"].as_array().unwrap() {
            assert!(result["clicksPerSecond"].as_f64() > Some(0.0), "{load}");
            assert_eq!((&result["doubleSales"], &result["falseRefusals"]), (&0.into(), &0.into()), "{load}");
        }
    }
    assert!(comparison["facts"]["PostgreSQL"].as_str().unwrap().contains("fsync=on"), "{comparison}");
    assert!(!comparison["bars"].as_array().unwrap().is_empty());
}

#[test]
fn whoever_has_sold_the_hall_takes_part_in_no_further_round() {
    let args =
        ["--only", "hotseat-alone", "--loads", "sale", "--rounds", "3", "--time", "20", "--seats", "200"];
    let (said, comparison) = compare(&args);
    let sold = |round| {
        format!("sale    {round}/3 hotseat (no Redis) has sold its hall: more --seats make more rounds\n")
    };
    assert!(said.contains(&sold(2)) && said.contains(&sold(3)), "{said}");
    let result = &comparison["loads"][0]["results"][0];
    assert!(result["cpuSecondsPerSeat"].as_f64() > Some(0.0), "{result}");
}

#[test]
fn the_knee_of_a_server_that_does_nothing_is_looked_for() {
    let _others = among_others();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let args = ["capacity", "--null", "--users", "4", "--max-rate", "400", "--time", "300ms", "--out", out];
    run(&args).passed();
    let capacity = &report(dir.path())["capacity"];
    assert_eq!(capacity["closed"].as_array().unwrap().len(), 3, "{capacity}");
    let open = capacity["open"].as_array().unwrap();
    assert!(open.iter().all(|point| point["offered"].as_f64() <= Some(500.0)), "{capacity}");
}
