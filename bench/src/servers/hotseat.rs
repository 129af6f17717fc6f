//! hotseat itself, with one option on sale.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::{self, Launch, Process};

const ADVICE: &str = "Build it (cargo build --release), or say where it is.";
const SEATS_PER_ROW: u32 = 50;
const ROWS_PER_SECTION: usize = 20;

/// A server that sells to whoever asks, as often as they ask.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOTSEAT_AUTH_DEV_TOKENS", "true"),
    ("HOTSEAT_SALES_CONFIRM_ROLE", "USER"),
    ("HOTSEAT_SALES_RESERVATIONS_PER_USER", "1000000"),
    ("HOTSEAT_LOG_LEVEL", "warn"),
];

#[derive(Debug)]
pub struct HotseatServer {
    process: Process,
    url: String,
    option: u64,
    version: String,
}

/// What the server writes into its data directory when it listens.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    public_url: String,
}

impl HotseatServer {
    /// Without a ledger's or a mirror's URL it uses those inside it: SQLite with a flush for each batch, and memory.
    ///
    /// # Errors
    /// It does not start, or does not take the plan; says what it said.
    pub fn start(
        binary: Option<&Path>,
        ledger: Option<&str>,
        mirror: Option<&str>,
        seats: u32,
    ) -> anyhow::Result<Self> {
        let binary = binary.map_or_else(find, |binary| Ok(binary.to_owned()))?;
        let version = run(Command::new(&binary).arg("--version"))?;
        let mut environment = ENVIRONMENT.to_vec();
        environment.extend(ledger.map(|url| ("HOTSEAT_LEDGER_URL", url)));
        environment.extend(mirror.map(|url| ("HOTSEAT_MIRROR_URL", url)));
        let dir = process::directory(None)?;
        let data = dir.join("data").to_string_lossy().into_owned();
        let launch = Launch { name: "hotseat", binary: &binary, dir, user: None, signal: "KILL" };
        let any = "127.0.0.1:0";
        let args = ["serve", "--data", &data, "--listen", any, "--ops-listen", any];
        let process = launch.start(args, &environment)?;
        let running: Running = process.wait_for(|process| {
            serde_json::from_slice(&std::fs::read(process.dir().join("data/run.json")).ok()?).ok()
        })?;
        let file = process.dir().join("plan.json");
        std::fs::write(&file, plan(seats).to_string())?;
        let said = run(Command::new(&binary)
            .args(["import", "--data", &data, "--concert", "Bench", "--at", "2100-01-01T20:00:00Z"])
            .arg(&file)
            .envs(environment.iter().copied()))?;
        let option = option(&said).with_context(|| format!("hotseat said of its new option: {said}"))?;
        let version = version.trim_start_matches("hotseat ").to_owned();
        Ok(Self { process, url: running.public_url, option, version })
    }

    /// `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it sells.
    pub fn option(&self) -> u64 {
        self.option
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn pids(&self) -> Vec<u32> {
        vec![self.process.pid()]
    }
}

/// Beside this program, or on the PATH.
fn find() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program does not know where it is")?;
    process::find("hotseat", own.parent().map(Path::to_owned).as_slice(), ADVICE)
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().context("hotseat cannot be started")?;
    ensure!(output.status.success(), "hotseat: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `concert 1, option 1: 1234 seats, on sale now (server 26504)`.
fn option(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("option ")?;
    rest.split_once(':')?.0.parse().ok()
}

/// Rows of fifty in sections of twenty rows, until there are enough.
fn plan(seats: u32) -> Value {
    let rows: Vec<u32> =
        (0..seats).step_by(SEATS_PER_ROW as usize).map(|first| (seats - first).min(SEATS_PER_ROW)).collect();
    let sections = (1..).zip(rows.chunks(ROWS_PER_SECTION)).map(|(number, rows)| {
        let rows =
            (1..).zip(rows).map(|(row, to): (u32, _)| json!({"label": row.to_string(), "from": 1, "to": to}));
        let number: u32 = number;
        json!({"code": format!("S{number}"), "rows": rows.collect::<Vec<_>>()})
    });
    json!({"sections": sections.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_as_many_seats_as_were_asked_for() {
        for seats in [1, 50, 51, 1_000, 1_001, 2_345] {
            let plan = plan(seats);
            let sections = plan["sections"].as_array().unwrap().iter();
            let rows: Vec<&Value> =
                sections.flat_map(|section| section["rows"].as_array().unwrap()).collect();
            let sum: u64 = rows.iter().map(|row| row["to"].as_u64().unwrap()).sum();
            assert_eq!(sum, u64::from(seats));
            assert!(rows.iter().all(|row| row["to"].as_u64() <= Some(50)));
        }
        assert_eq!(plan(1_001)["sections"][1]["rows"][0]["to"], 1);
    }

    #[test]
    fn the_option_is_in_what_the_import_says() {
        assert_eq!(option("concert 1, option 12: 1234 seats, on sale now (server 26504)"), Some(12));
        assert_eq!(option("no"), None);
    }
}
