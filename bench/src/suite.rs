//! All of it, in one command: a list of command lines, each of which can be typed by itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Parser};

use crate::args::{Args, Task};
use crate::capacity::{self, Explored};
use crate::command::{Outcome, Started, run};
use crate::compare::contender::{Contender, Running, Stores};
use crate::compare::{self, Compared};
use crate::limits;
use crate::report::model::{Capacity, Comparison, Headline, Scenario, Verdict};

/// Of the hall that the suite sells.
const SEATS: u32 = 100_000;
/// Viewers, and everybody else.
const CONNECTIONS: u64 = 6_000;

/// Against a server that does nothing: the generator's own error.
const NULL: &str = "toggle --null --rate 10000 --time 5s";
/// Against a server on a PostgreSQL and a Redis beside it.
const LOADS: [&str; 4] = [
    "hotseat --rate 5000 --time 5s",
    "toggle --rate poisson:5000 --time 10s",
    "mixed --rate poisson:2000 --time 10s",
    "fanout --viewers 5000 --rate 1000 --time 10s",
];
const CAPACITY: &str = "capacity";
/// Sells the hall out.
const SALE: &str = "rush";
/// Starts everybody itself.
const COMPARE: &str = "compare --time 1.5";

#[derive(ClapArgs, Clone, Debug)]
pub struct SuiteArgs {
    /// The server's binary; beside this one or on the PATH unless told
    #[arg(long, value_name = "PATH")]
    pub hotseat: Option<PathBuf>,
    /// Write report.html, report.json and the histograms into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    scenarios: Vec<Scenario>,
    headline: Vec<Headline>,
    wrongs: Vec<String>,
    capacity: Option<Capacity>,
    comparison: Option<Comparison>,
    /// Somebody pressed Ctrl-C: what there is is shown.
    interrupted: bool,
}

/// Measures, prints, writes: what was found until then, if it is broken off.
///
/// # Errors
/// Something cannot be started, or was broken off.
pub async fn command(args: &SuiteArgs, started: &Started) -> anyhow::Result<ExitCode> {
    // What is started from here on inherits the room for connections.
    limits::make_room(CONNECTIONS)?;
    let mut found = Found::default();
    let all = found.all(args).await;
    found.wrongs.extend(all.as_ref().err().map(|error| format!("broken off: {error:#}")));
    let Found { scenarios, mut headline, wrongs, capacity, comparison, interrupted } = found;
    headline.extend(capacity.iter().flat_map(capacity::headline));
    headline.extend(comparison.iter().flat_map(compare::headline));
    let mut report = started.report(scenarios, headline);
    if !wrongs.is_empty() {
        report.verdict = Verdict { passed: false, text: wrongs.join(", ") };
    }
    (report.capacity, report.comparison) = (capacity, comparison);
    let code = started.end(&report, interrupted, args.out.as_deref())?;
    all.map(|()| code)
}

impl Found {
    async fn all(&mut self, args: &SuiteArgs) -> anyhow::Result<()> {
        self.load(NULL, &[]).await?;
        if !self.interrupted {
            self.loads(args).await?;
        }
        if !self.interrupted {
            let Compared { comparison, wrongs, interrupted } = compare_all(args).await?;
            self.wrongs.extend(wrongs);
            (self.comparison, self.interrupted) = (Some(comparison), interrupted);
        }
        Ok(())
    }

    /// On a server of its own.
    async fn loads(&mut self, args: &SuiteArgs) -> anyhow::Result<()> {
        let stores = Stores::start()?;
        let server = Running::start(Contender::Hotseat, args.hotseat.as_deref(), &stores, SEATS).await?;
        let url = server.at.target.to_string();
        // A new option is on sale within a second.
        let at = ["--url", &url, "--wait", "10s"];
        for line in LOADS {
            if !self.interrupted {
                self.load(line, &at).await?;
            }
        }
        if !self.interrupted {
            // The knee is looked for while there are seats.
            let Explored { capacity, wrongs, interrupted } = explore(&at).await?;
            (self.capacity, self.interrupted) = (Some(capacity), interrupted);
            self.wrongs.extend(wrongs);
        }
        if !self.interrupted {
            self.load(SALE, &at).await?;
        }
        Ok(())
    }

    /// Runs a line as if it had been typed.
    async fn load(&mut self, line: &str, further: &[&str]) -> anyhow::Result<()> {
        let outcome = run(&parse(line, further)?).await?.with_context(|| format!("{line} is no load"))?;
        let Outcome { scenario, headline, verdict, interrupted, failed } = outcome;
        let label = if line == NULL { "null server" } else { scenario.name.as_str() };
        let labelled = |Headline { what, value }| Headline { what: format!("{label}: {what}"), value };
        self.headline.extend(headline.into_iter().map(labelled));
        // A generator that was late is seen in its figures; it says nothing about the server.
        let wrong = verdict.filter(|verdict| !verdict.passed && line != NULL);
        self.wrongs.extend(wrong.map(|verdict| format!("{label}: {}", verdict.text)));
        self.interrupted |= interrupted;
        self.scenarios.push(scenario);
        failed.map_or(Ok(()), |error| Err(error.context(format!("{line} was broken off"))))
    }
}

async fn explore(at: &[&str]) -> anyhow::Result<Explored> {
    match parse(CAPACITY, at)? {
        Task::Capacity(args) => capacity::explore(&args).await,
        _ => anyhow::bail!("{CAPACITY} is something else"),
    }
}

async fn compare_all(args: &SuiteArgs) -> anyhow::Result<Compared> {
    let binary = args.hotseat.as_ref().map(|path| path.to_string_lossy().into_owned());
    let further = binary.as_deref().map_or(Vec::new(), |path| vec!["--hotseat", path]);
    match parse(COMPARE, &further)? {
        Task::Compare(args) => compare::compare(&args).await,
        _ => anyhow::bail!("{COMPARE} is something else"),
    }
}

fn parse(line: &str, further: &[&str]) -> anyhow::Result<Task> {
    let words = ["hotseat-bench"].into_iter().chain(line.split(' ')).chain(further.iter().copied());
    let words: Vec<&str> = words.collect();
    eprintln!("\n{}", words.join(" "));
    let Args { task, .. } = Args::try_parse_from(words)?;
    let task = task.context("a line begins with a command")?;
    ensure!(!matches!(task, Task::Suite(_)), "a suite in a suite");
    Ok(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_typed() {
        for line in LOADS {
            assert!(parse(line, &["--url", "http://127.0.0.1:1"]).is_ok(), "{line}");
        }
        assert!(parse(NULL, &[]).is_ok() && parse(SALE, &[]).is_ok());
        assert!(matches!(parse(CAPACITY, &["--url", "http://127.0.0.1:1"]), Ok(Task::Capacity(_))));
        assert!(matches!(parse(COMPARE, &["--hotseat", "x"]), Ok(Task::Compare(_))));
    }
}
