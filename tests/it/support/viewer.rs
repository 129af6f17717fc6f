//! Somebody who watches the hall by what changed since, and believes every frame.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::PATIENCE;
use super::crowd::Shared;

const PAUSE: Duration = Duration::from_millis(30);

/// The hall as the viewer has it.
pub struct View {
    /// Whom it asks.
    server: usize,
    option: u32,
    /// `EPOCH.SEQ`.
    at: String,
    /// By seat, as in the compact map.
    states: Vec<u8>,
    /// Times that the server could not say what had changed.
    pub snapshots: usize,
}

impl View {
    /// The hall as everybody is told who asks for all of it.
    fn all(shared: &Shared, server: usize, option: u32) -> Option<Self> {
        let answer = shared.request(server, "GET", &format!("/api/v1/options/{option}/seats"), &[]).ok()?;
        let seats = (answer.status == 200).then(|| answer.json())?;
        let state = |seat: &Value| match seat["state"].as_str() {
            Some("AVAILABLE") => 0,
            Some("SELECTING") => 1,
            Some("HOLD") => 2,
            Some("CONFIRMED") => 3,
            other => panic!("{other:?}"),
        };
        Some(Self {
            server,
            option,
            at: format!("{}.{}", seats["epoch"], seats["seq"]),
            states: seats["seats"].as_array().unwrap().iter().map(state).collect(),
            snapshots: 0,
        })
    }

    /// Watches an option at a server until everybody leaves.
    pub fn watch(shared: &Shared, server: usize, option: u32) -> Self {
        let mut view = loop {
            match Self::all(shared, server, option) {
                Some(view) => break view,
                None => thread::sleep(PAUSE),
            }
        };
        while !shared.is_leaving() {
            view.poll(shared);
            thread::sleep(PAUSE);
        }
        view
    }

    /// While nobody answers, what was seen stays as it is.
    fn poll(&mut self, shared: &Shared) {
        let path = format!("/api/v1/options/{}/seats?since={}", self.option, self.at);
        match shared.request(self.server, "GET", &path, &[]) {
            Ok(answer) if answer.status == 200 => self.apply(&answer.json()),
            _ => {}
        }
    }

    fn apply(&mut self, frame: &Value) {
        let position = |name: &str| frame[name].as_str().unwrap_or_else(|| panic!("{frame}")).to_owned();
        if let Some(map) = frame["map"].as_str() {
            self.snapshots += 1;
            self.at = position("at");
            let map = STANDARD.decode(map).unwrap();
            let state = |seat: usize| map[22 + seat / 4] >> (2 * (seat % 4)) & 3;
            self.states = (0..self.states.len()).map(state).collect();
            return;
        }
        assert_eq!(position("from"), self.at, "a gap: {frame}");
        self.at = position("to");
        for change in frame["set"].as_array().unwrap() {
            let seat = usize::try_from(change[0].as_u64().unwrap()).unwrap();
            self.states[seat] = u8::try_from(change[1].as_u64().unwrap()).unwrap();
        }
    }

    /// Everybody has left: soon the same is seen as by who asks for all of it.
    pub fn must_agree(mut self, shared: &Shared) {
        let started = Instant::now();
        loop {
            self.poll(shared);
            let all = Self::all(shared, self.server, self.option);
            if let Some(all) = all.filter(|all| all.at == self.at) {
                assert!(all.states == self.states, "the viewer saw another hall at {}", self.at);
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{} is never where the server is", self.at);
            thread::sleep(PAUSE);
        }
    }
}
