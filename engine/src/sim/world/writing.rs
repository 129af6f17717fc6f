//! Between the shard and the ledger.

use super::{Event, World};
use crate::effect::Input;
use crate::sim::auditor::Verdict;
use crate::sim::writer::{self, Message, Sent};

impl World<'_> {
    pub(super) fn send_entries(&mut self) {
        let mut sent = Sent::new();
        self.writer.send(&mut self.streams.ledger, &self.options.faults, &mut sent);
        self.schedule_messages(sent);
    }

    fn schedule_messages(&mut self, sent: Sent) {
        for (pause, message) in sent {
            self.schedule(pause, Event::Ledger(message));
        }
    }

    pub(super) fn ledger_message(&mut self, message: Message) -> Verdict {
        match message {
            Message::Batch { epoch, entries, answered } => {
                let (prng, faults) = (&mut self.streams.ledger, &self.options.faults);
                let answer = writer::receive(&mut self.ledger, epoch, &entries, answered, prng, faults)?;
                if let Some(answer) = answer {
                    let pause = self.streams.ledger.between(0, self.options.faults.ledger_latency / 2);
                    self.schedule(pause, Event::Ledger(answer));
                }
            }
            Message::TimeOut { epoch, attempt } if epoch == self.writer.epoch => {
                let mut sent = Sent::new();
                let (prng, faults) = (&mut self.streams.ledger, &self.options.faults);
                self.writer.timed_out(attempt, prng, faults, &mut sent);
                self.schedule_messages(sent);
            }
            Message::Answer { epoch, upto, refused } if epoch == self.writer.epoch => {
                self.writer.answered(refused.is_some());
                if self.streams.ledger.chance(self.options.faults.shell_confused) {
                    return self.report_nonsense();
                }
                if let Some((upto, head)) = upto {
                    self.step(Input::Applied { upto, head })?;
                }
                if let Some(entry) = refused
                    && epoch == self.writer.epoch
                {
                    self.step(Input::Refused { entry })?;
                }
                self.send_entries();
            }
            // For the dead.
            Message::TimeOut { .. } | Message::Answer { .. } => {}
        }
        Ok(())
    }

    /// An entry that was never sent, or that is there already: shell and engine disagree.
    fn report_nonsense(&mut self) -> Verdict {
        let far = crate::ids::EntryNo(1_000_000);
        if self.streams.ledger.chance(500) {
            self.step(Input::Refused { entry: far })
        } else {
            self.step(Input::Applied { upto: far, head: self.ledger.head })
        }
    }
}
