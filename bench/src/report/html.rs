//! The page: one file that needs nothing else, complete without scripts.

mod compared;
mod measured;
mod parts;

use super::model::{Headline, Machine, Report};
use super::numbers::{fixed, seconds};
use super::svg::{escape, style};
use parts::facts;

const STYLE: &str = include_str!("html/page.css");
const READING: &str = include_str!("html/reading.html");

/// The colours of drawings are the page's.
const INKS: [&str; 5] = ["var(--ink)", "var(--quiet)", "var(--faint)", "var(--accent)", "var(--paper)"];

/// A part of the page: the anchor that leads to it, its name, and what it says.
struct Section {
    anchor: String,
    name: String,
    body: String,
}

pub fn page(report: &Report) -> String {
    let sections = sections(report);
    let word = if report.verdict.passed { "passed" } else { "failed" };
    let title = format!("{}: {word}", escape(&names(report)));
    let style = format!("{STYLE}{}", style(INKS));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n"
    );
    page += &header(report, &sections);
    page += "<main>\n";
    for Section { anchor, body, .. } in &sections {
        page += &format!("<section id=\"{anchor}\">\n{body}</section>\n");
    }
    page += "</main>\n</body>\n</html>\n";
    page
}

fn sections(report: &Report) -> Vec<Section> {
    let scenarios = super::names(report).into_iter().zip(&report.scenarios);
    let mut sections: Vec<Section> = scenarios
        .map(|(anchor, scenario)| Section {
            anchor: format!("scenario-{anchor}"),
            name: format!("{} on {}", scenario.name, scenario.target.name),
            body: measured::scenario(scenario),
        })
        .collect();
    let mut section = |name: &str, body| {
        sections.push(Section { anchor: super::slug(name), name: name.to_owned(), body });
    };
    if let Some(capacity) = &report.capacity {
        section("Capacity", compared::capacity(capacity));
    }
    if let Some(comparison) = &report.comparison {
        section("Comparison", compared::comparison(comparison));
    }
    section("How it was measured", setting(report));
    section("How to read this", READING.to_owned());
    sections
}

fn header(report: &Report, sections: &[Section]) -> String {
    let (class, word) = if report.verdict.passed { ("yes", "✓ Passed") } else { ("no", "✗ Failed") };
    let kicker =
        format!("{} · {} · took {}", names(report), day(&report.started_at), seconds(report.seconds));
    let mut header = format!(
        "<header>\n<p class=\"kicker\">{}</p>\n<h1><span class=\"word {class}\">{word}</span> {}</h1>\n",
        escape(&kicker),
        escape(&report.verdict.text)
    );
    header += &headlines(&report.headline);
    header += "<nav aria-label=\"Sections\">\n";
    for Section { anchor, name, .. } in sections {
        header += &format!("<a href=\"#{anchor}\">{}</a>\n", escape(name));
    }
    header += "</nav>\n</header>\n";
    header
}

fn names(report: &Report) -> String {
    let mut names: Vec<&str> = report.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    names.extend(report.capacity.as_ref().map(|_| "capacity"));
    names.extend(report.comparison.as_ref().map(|_| "comparison"));
    names.dedup();
    format!("hotseat-bench {}: {}", report.bench, names.join(", "))
}

/// `2025-06-01 12:00 UTC`; what is no such instant stays as it is.
fn day(instant: &str) -> String {
    match instant.parse::<jiff::Timestamp>() {
        Ok(instant) => instant.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => instant.to_owned(),
    }
}

fn headlines(headlines: &[Headline]) -> String {
    if headlines.is_empty() {
        return String::new();
    }
    let each = headlines.iter().map(|Headline { what, value }| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(what), escape(value))
    });
    format!("<dl class=\"headline\">\n{}</dl>\n", each.collect::<String>())
}

fn setting(report: &Report) -> String {
    let Machine { cpu, cores, memory_gib, kernel, os } = &report.machine;
    let rows = [
        ("command", report.command.clone()),
        ("machine", format!("{cpu}, {cores} cores, {} GiB of memory", fixed(*memory_gib, 1))),
        ("kernel", kernel.clone()),
        ("system", os.clone()),
        ("bench", format!("hotseat-bench {}", report.bench)),
        ("began", report.started_at.clone()),
        ("took", seconds(report.seconds)),
    ];
    format!(
        "<h2>How it was measured</h2>\n{}",
        facts(rows.iter().map(|(what, value)| (*what, value.as_str())))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[track_caller]
    fn check(page: &str, piece: &str) {
        assert!(page.contains(piece), "not in it:\n{piece}\n\nbut this is:\n{page}");
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = page(&example::report());
        for foreign in ["<script", "<link", "<img", "@import", "src=", "href=\"http", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_page_says_how_it_was_measured() {
        let page = page(&example::report());
        for piece in [
            "Example CPU @ 2.20GHz, 2 cores, 7.8 GiB of memory",
            "Linux 6.1.0",
            "PostgreSQL 15.18, fsync=on, synchronous_commit=on",
            "<code>hotseat-bench suite --seed 1 --out report</code>",
            "<b>✓ passed</b> no seat was sold twice",
            "<b>✗ failed</b> the feed has no gaps",
            "<td>10,000</td>",
            "poisson:10000",
            "How to read this",
            "1,204 double sales",
            "12 false refusals",
            "2025-06-01 12:00 UTC",
        ] {
            check(&page, piece);
        }
    }

    #[test]
    fn names_are_harmless_everywhere() {
        let evil = "<script>alert(1)</script>\"'&";
        let mut report = example::report();
        report.command = evil.to_owned();
        report.verdict.text = evil.to_owned();
        report.headline[0].value = evil.to_owned();
        report.machine.cpu = evil.to_owned();
        let scenario = &mut report.scenarios[0];
        scenario.name = evil.to_owned();
        scenario.target.name = evil.to_owned();
        scenario.target.facts.insert(evil.to_owned(), evil.to_owned());
        scenario.settings.push((evil.to_owned(), evil.to_owned()));
        for run in &mut scenario.runs {
            run.operations[1].name = evil.to_owned();
            run.refusals.insert(evil.to_owned(), 1);
            run.audit.checks[2].details[0] = evil.to_owned();
        }
        let comparison = report.comparison.as_mut().unwrap();
        comparison.contenders[0].idea = evil.to_owned();
        comparison.loads[0].what = evil.to_owned();
        comparison.bars[0].measured = evil.to_owned();
        let page = page(&report);
        assert!(!page.contains("<script"), "{page}");
        check(&page, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;");
    }

    #[test]
    fn little_or_odd_data_has_a_page_without_odd_numbers() {
        let nothing = page(&example::nothing());
        check(&nothing, "<span class=\"word no\">✗ Failed</span> nothing was measured");
        for report in example::odd() {
            let page = page(&report);
            assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
        }
    }

    /// HTML that is also XML, but for its first line and its empty elements: an element that is not closed is found.
    #[test]
    fn every_element_is_closed() {
        for report in example::odd().into_iter().chain([example::report(), example::nothing()]) {
            let page = page(&report);
            let (_, body) = page.split_once("<body>").unwrap();
            let (body, _) = body.split_once("</body>").unwrap();
            let body = format!("<body>{body}</body>");
            let parsed = roxmltree::Document::parse(&body);
            parsed.unwrap_or_else(|error| panic!("{error}\n{body}"));
        }
    }
}
