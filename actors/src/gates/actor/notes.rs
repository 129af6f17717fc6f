//! What was admitted, for the history: now and then, and the same words until the ledger has them.

use std::time::Duration;

use engine::Time;

use super::{Message, Serving};
use crate::gates::ports::{Admitted, Written};

/// How often.
pub const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Notes {
    /// What was counted until then is in the history, or on its way.
    until: Time,
    counted: u64,
    /// Not in the history yet.
    due: Option<Admitted>,
    is_under_way: bool,
}

impl Notes {
    pub const fn new(now: Time) -> Self {
        Self { until: now, counted: 0, due: None, is_under_way: false }
    }

    pub fn noted(&mut self, admitted: Admitted, is_noted: bool) {
        self.is_under_way = false;
        self.due = (!is_noted).then_some(admitted);
    }
}

impl Serving {
    pub(super) fn note(&mut self) {
        let (now, admitted) = (self.gate.now(), self.gate.load().admitted);
        let notes = &mut self.notes;
        if notes.is_under_way {
            return;
        }
        if notes.due.is_none() && admitted > notes.counted {
            notes.due = Some(Admitted { since: notes.until, until: now, count: admitted - notes.counted });
            (notes.until, notes.counted) = (now, admitted);
        }
        let Some(due) = notes.due else { return };
        notes.is_under_way = true;
        let (ledger, fence, concert, me) =
            (self.ledger.clone(), self.fence, self.gate.concert(), self.me.clone());
        tokio::spawn(async move {
            let written = ledger.note_admitted(fence, concert, due).await;
            // Fenced: the next owner counts on from its own beginning.
            let is_noted = matches!(written, Ok(Written::Done | Written::Fenced | Written::Conflict));
            let _lives = me.send_message(Message::Noted(due, is_noted));
        });
    }
}
