//! What a batch of changes comes to, so that a script can make them all with few commands.

use std::collections::BTreeMap;

use engine::gate::{Draw, KeptPass, MirrorOp};
use engine::{PassId, Turn, UserId};

/// Who is where after a batch. Those who join or are admitted are there whatever was before; those who leave without
/// having come in this batch leave only that turn or that pass.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// No turn below is given out any more.
    pub next: Turn,
    pub draw: Option<Draw>,
    /// Out of the line, before others join it. `None`: whatever the turn.
    pub left: Vec<(UserId, Option<Turn>)>,
    pub joined: Vec<(UserId, Turn)>,
    /// Out of the sale, before others enter it. `None`: whatever the pass.
    pub ended: Vec<(UserId, Option<PassId>)>,
    pub admitted: Vec<KeptPass>,
}

impl Sum {
    pub fn of(changes: &[MirrorOp]) -> Self {
        let mut sum = Self::default();
        // Who came in this batch, and has not left again.
        let mut line: BTreeMap<UserId, Option<Turn>> = BTreeMap::new();
        let mut sale: BTreeMap<UserId, Option<KeptPass>> = BTreeMap::new();
        for change in changes {
            match *change {
                MirrorOp::Join { user, turn } => {
                    line.insert(user, Some(turn));
                    sum.gave_out(turn);
                }
                MirrorOp::Remove { user, turn } => sum.leaves(&mut line, user, turn),
                MirrorOp::Admit { user, turn, pass, ends_at } => {
                    sum.leaves(&mut line, user, turn);
                    sale.insert(user, Some(KeptPass { user, turn, id: pass, ends_at }));
                    sum.gave_out(turn);
                }
                MirrorOp::End { user, pass } => match sale.get_mut(&user) {
                    Some(kept) => _ = kept.take_if(|kept| kept.id == pass),
                    None => sum.ended.push((user, Some(pass))),
                },
                MirrorOp::Draw(draw) => sum.draw = Some(draw),
                // Comes as a rebuild, and never in a batch.
                MirrorOp::Rebuild => {}
            }
        }
        for (user, turn) in line {
            match turn {
                Some(turn) => sum.joined.push((user, turn)),
                None => sum.left.push((user, None)),
            }
        }
        for (user, pass) in sale {
            match pass {
                Some(pass) => sum.admitted.push(pass),
                None => sum.ended.push((user, None)),
            }
        }
        sum
    }

    fn gave_out(&mut self, turn: Turn) {
        self.next = self.next.max(Turn(turn.0 + 1));
    }

    fn leaves(&mut self, line: &mut BTreeMap<UserId, Option<Turn>>, user: UserId, from: Turn) {
        match line.get_mut(&user) {
            Some(turn) => _ = turn.take_if(|turn| *turn == from),
            None => self.left.push((user, Some(from))),
        }
    }
}
