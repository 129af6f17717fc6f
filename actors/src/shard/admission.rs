//! What a shard has to do with the gates of its concerts: who may click, and who is done.

use engine::reservation::Kind;
use engine::{Command, ConcertId, Granted, OptionId, Outcome, Status};
use tokio::time::Instant;

use super::Serving;
use crate::handle::Ask;

impl Serving {
    /// Whether the pass that a command shows is live; nothing while the gate that knows is being restored.
    pub(super) fn is_admitted(&self, now: Instant, ask: &Ask) -> Option<bool> {
        let (Some(pass), Some(option)) = (ask.pass, option_of(&ask.command)) else { return Some(false) };
        let Some(concert) = self.start.shard.gate_of(option) else { return Some(false) };
        let passes = self.gates.get(&concert)?;
        Some(passes.admits(self.start.clock.at(now), ask.caller.user, pass))
    }

    /// A gate from which another owner could not go on.
    pub(super) fn unmirrored_gate(&self) -> Option<ConcertId> {
        self.gates.iter().find(|(_, passes)| !passes.is_mirrored()).map(|(concert, _)| *concert)
    }

    /// Who has bought leaves room for the next.
    pub(super) fn give_back_if_bought(&self, outcome: &Outcome) {
        if self.gates.is_empty() {
            return;
        }
        if let Outcome::Granted(Granted::Reserved { reservation, .. }) = outcome
            && reservation.status == Status::Confirmed
            && reservation.kind == Kind::Sale
            && let Some(passes) = self.gates.get(&reservation.concert)
        {
            passes.bought(reservation.user, reservation.changed_at);
        }
    }
}

/// The option whose seats a command wants.
const fn option_of(command: &Command) -> Option<OptionId> {
    match command {
        Command::Select { option, .. }
        | Command::SelectBest { option, .. }
        | Command::Release { option, .. }
        | Command::Hold { option, .. } => Some(*option),
        Command::StartPaying { .. }
        | Command::Confirm { .. }
        | Command::Cancel { .. }
        | Command::Refund { .. }
        | Command::Block { .. }
        | Command::Unblock { .. }
        | Command::AddOption { .. }
        | Command::SetOptionStatus { .. }
        | Command::SetPolicy { .. } => None,
    }
}
