//! The report for a terminal.

mod parts;
mod table;

use std::io::{IsTerminal, stdout};

use super::model::{Headline, Report, Verdict};
use super::numbers::fixed;

/// What is printed at the end: the verdict first, for those who read one line, and last, for those who scrolled.
pub fn print(report: &Report) -> String {
    let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    render(report, coloured)
}

fn render(report: &Report, coloured: bool) -> String {
    let verdict = verdict(&report.verdict, coloured);
    let mut sections = vec![verdict.clone()];
    sections.extend(headlines(&report.headline));
    sections.push(about(report));
    sections.extend(report.scenarios.iter().map(parts::scenario));
    sections.extend(report.capacity.as_ref().map(parts::capacity));
    sections.extend(report.comparison.as_ref().map(parts::comparison));
    if sections.len() > 3 {
        sections.push(verdict);
    }
    sections.join("\n")
}

fn verdict(verdict: &Verdict, coloured: bool) -> String {
    let (word, colour) = if verdict.passed { ("PASSED", 32) } else { ("FAILED", 31) };
    let word = if coloured { format!("\x1b[1;{colour}m{word}\x1b[0m") } else { word.to_owned() };
    format!("{word}: {}\n", table::plain(&verdict.text))
}

fn headlines(headlines: &[Headline]) -> Option<String> {
    let rows: Vec<_> = headlines.iter().map(|line| vec![line.what.clone(), line.value.clone()]).collect();
    (!rows.is_empty()).then(|| table::left(2, &rows))
}

fn about(report: &Report) -> String {
    let machine = &report.machine;
    let system = format!(
        "{}, {} cores, {} GiB, {}, {}",
        machine.cpu,
        machine.cores,
        fixed(machine.memory_gib, 1),
        machine.kernel,
        machine.os
    );
    let rows = [
        ("command", report.command.clone()),
        ("bench", report.bench.clone()),
        ("machine", system),
        ("began", format!("{}, took {}", report.started_at, super::numbers::seconds(report.seconds))),
    ];
    table::left(2, &rows.map(|(what, value)| vec![what.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[track_caller]
    fn check(text: &str, piece: &str) {
        assert!(text.contains(piece), "not in it:\n{piece}\n\nbut this is:\n{text}");
    }

    #[test]
    fn the_verdict_is_first_and_last() {
        let text = render(&example::report(), false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), lines.last());
        assert_eq!(lines[0], "PASSED: every audit is clean; 4 of 5 promises were kept");
        check(&text, "  seats sold    100,000 in 14.2 s\n  clicks per s  9,812\n");
        check(&text, "  machine  Example CPU @ 2.20GHz, 2 cores, 7.8 GiB, Linux 6.1.0, Debian 12\n");
    }

    #[test]
    fn a_run_says_how_it_was_measured() {
        let text = render(&example::report(), false);
        check(
            &text,
            "rush on hotseat, http://127.0.0.1:8080\n  \
             connections  64\n  \
             schedule     poisson:10000\n  \
             seed         1\n  \
             ledger       PostgreSQL 15.18, fsync=on, synchronous_commit=on\n",
        );
        check(
            &text,
            "  run 1 of 2, 20.0 s after 2.0 s of warm-up\n    \
             offered         10,000/s       200,000 arrivals\n    \
             answered        9,990/s        199,800 requests\n    \
             dropped         0\n    \
             failed          3              no answer 3\n    \
             refused         1,204          SEAT_TAKEN 1,200, SEAT_HELD 4\n    \
             sent late       1,000          later than 1 ms; p99 2.10 ms, max 100 ms\n    \
             schedule error  0.092 ms       p99, max 0.410 ms: the generator's own\n",
        );
    }

    #[test]
    fn operations_are_a_table() {
        let text = render(&example::report(), false);
        check(&text, "    ms         count  granted  refused  failed");
        let select = text.lines().find(|line| line.starts_with("    select ")).unwrap();
        let columns: Vec<&str> = select.split_whitespace().collect();
        assert_eq!(columns[..5], ["select", "100,003", "98,796", "1,204", "3"]);
        assert_eq!(columns.len(), 10, "{select}");
    }

    #[test]
    fn an_audit_is_in_words() {
        let text = render(&example::report(), false);
        check(&text, "    ✓ passed: no seat was sold twice\n");
        check(&text, "    ✗ FAILED: the feed has no gaps\n        viewer 7 had 41, was sent 43\n");
        check(&text, "    1,204 refusals, 0 of them false; 0 double grants, 0 double sales\n");
    }

    #[test]
    fn capacity_and_comparison_are_tables() {
        let text = render(&example::report(), false);
        check(&text, "capacity, objective: p99 ≤ 50 ms, errors 0\n");
        check(&text, "The knee is at 11,000/s; the closed loop had predicted a peak of 10,965/s.\n");
        check(&text, "    hotseat         9,812  3.20  9.60   17.3");
        check(&text, "    redis-lock     cannot\n");
        check(&text, "  missed  ≥ 1.1×  1.02×     single seats against redis-setnx");
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let text = render(&example::nothing(), false);
        assert_eq!(text.lines().next(), Some("FAILED: nothing was measured"));
        for report in example::odd() {
            let text = render(&report, false);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn colours_are_for_terminals_and_names_have_none() {
        let mut report = example::report();
        assert!(render(&report, true).starts_with("\x1b[1;32mPASSED\x1b[0m"));
        report.scenarios[0].target.name = "\x1b[2Jgone".to_owned();
        report.verdict.text = "\x1b[31mred".to_owned();
        assert!(!render(&report, false).contains('\x1b'));
    }
}
