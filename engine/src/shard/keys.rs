//! Idempotency: a key that is known, answered or pending, is looked at before anything else.

use crate::answered::{Record, ScopedKey};
use crate::command::{Command, Request};
use crate::limits::ANSWERED_KEYS;
use crate::outcome::{Granted, Outcome, Refusal, Unavailable};
use crate::shard::{Decision, Shard};
use crate::time::Time;

/// The key of a request within its user.
pub(super) fn scoped(request: &Request) -> Option<ScopedKey> {
    request.key.map(|key| ScopedKey::new(request.caller.user, key))
}

impl Shard {
    /// Rules 1 and 2 and the bound of the answered keys; `None` when the command is new.
    pub(super) fn known_key(&mut self, request: &Request) -> Option<Decision> {
        let names = match request.command {
            Command::Hold { option, .. }
            | Command::Block { option, .. }
            | Command::SetOptionStatus { option, .. } => Some(option),
            _ => None,
        };
        if names.is_some_and(|option| self.find_option(option).is_none()) {
            return Some(Refusal::OptionUnknown.into());
        }
        let key = scoped(request)?;
        if let Some(record) = self.answered.get(key).copied() {
            return Some(self.first_answer(&record, request.command.content()));
        }
        if let Some(no) = self.pending.by_key(key) {
            let entry = self.pending.get(no)?;
            let same = entry.request.is_some_and(|(_, content)| content == request.command.content());
            return Some(match same {
                false => Refusal::RequestReused.into(),
                true if self.pending.add_retry(no, request.reply) => Decision::Later,
                true => Unavailable::Overloaded.into(),
            });
        }
        let full = self.answered.len() + self.pending.keyed() >= ANSWERED_KEYS;
        full.then(|| Unavailable::Overloaded.into())
    }

    fn first_answer(&self, record: &Record, content: u64) -> Decision {
        if record.content != content {
            return Refusal::RequestReused.into();
        }
        let Some(status) = record.status() else {
            return Decision::Replay(Outcome::Granted(Granted::Done));
        };
        let mut row = self.reservations.get(record.reservation).row.clone();
        row.payment_started = match status {
            crate::reservation::Status::Hold => false,
            crate::reservation::Status::Paying => true,
            _ => row.payment_started,
        };
        row.status = status;
        row.version = record.version();
        row.deadline = record.deadline;
        row.changed_at = record.at;
        let created = row.version == 1;
        Decision::Replay(Outcome::Granted(Granted::Reserved { reservation: Box::new(row), created }))
    }

    /// Remembers what a request was told, now that it is durable.
    pub(super) fn remember(&mut self, key: ScopedKey, content: u64, at: Time, handle: Option<u32>) {
        let record = match handle {
            None => Record::done(key, content, at),
            Some(handle) => {
                let row = &self.reservations.get(handle).row;
                Record::reservation(key, content, at, handle, row.status, row.version, row.deadline)
            }
        };
        self.answered.insert(record);
    }
}
