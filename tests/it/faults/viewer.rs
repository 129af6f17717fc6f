//! Somebody who watches the hall by what changed since, and believes every frame.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::crowd::Shared;
use crate::support::{PATIENCE, Server, request};

const PAUSE: Duration = Duration::from_millis(30);

/// The hall as the viewer has it.
pub struct View {
    /// `EPOCH.SEQ`.
    at: String,
    /// By seat, as in the compact map.
    states: Vec<u8>,
    /// Times that the server could not say what had changed.
    pub snapshots: usize,
}

impl View {
    /// The hall as everybody is told who asks for all of it.
    fn all(api: &str) -> Option<Self> {
        let answer = request("GET", &format!("{api}/api/v1/options/1/seats"), &[], None).ok()?;
        let seats = (answer.status == 200).then(|| answer.json())?;
        let state = |seat: &Value| match seat["state"].as_str() {
            Some("AVAILABLE") => 0,
            Some("SELECTING") => 1,
            Some("HOLD") => 2,
            Some("CONFIRMED") => 3,
            other => panic!("{other:?}"),
        };
        Some(Self {
            at: format!("{}.{}", seats["epoch"], seats["seq"]),
            states: seats["seats"].as_array().unwrap().iter().map(state).collect(),
            snapshots: 0,
        })
    }

    /// Watches until everybody leaves.
    pub fn watch(shared: &Shared) -> Self {
        let mut view = loop {
            match Self::all(&shared.api()) {
                Some(view) => break view,
                None => thread::sleep(PAUSE),
            }
        };
        while !shared.is_leaving() {
            view.poll(&shared.api());
            thread::sleep(PAUSE);
        }
        view
    }

    /// While nobody answers, what was seen stays as it is.
    fn poll(&mut self, api: &str) {
        let url = format!("{api}/api/v1/options/1/seats?since={}", self.at);
        match request("GET", &url, &[], None) {
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
    pub fn must_agree(mut self, server: &Server) {
        let started = Instant::now();
        loop {
            self.poll(&server.api);
            let all = Self::all(&server.api).unwrap();
            if all.at == self.at {
                assert!(all.states == self.states, "the viewer saw another hall at {}", self.at);
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{} and {} never meet", all.at, self.at);
            thread::sleep(PAUSE);
        }
    }
}
