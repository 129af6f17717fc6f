//! What viewers need to know their rank: a few numbers per tick for everybody, however many wait.
//!
//! A tick names the turn being served and, for each block of 4,096 turns that changed, how many of its turns are
//! still ahead of those behind. A waiter also gets the bitmap of its own block when that changed. From these
//! a [`Viewer`] counts exactly what the owner would: the counts of the blocks before its own, and the bits before its
//! own turn. Numbers are absolute, so a viewer that begins in between (with [`Gate::view`]) may meet a change
//! twice; one that missed a tick begins anew.
//!
//! On the wire, little-endian: `u8 version=1 | u8 0x90 | u16 0 | u32 no | u32 serving | u32 n | n × u32 (block << 13 |
//! ahead)`.

use super::{Bitmap, Gate};
use crate::ids::Turn;
use crate::limits::{GATE_TURNS, TURNS_PER_BLOCK};

/// The bits of a block's count, which is at most 4,096.
const COUNT_BITS: u32 = 13;
const HEADER: usize = 16;
const VERSION: u8 = 1;
const KIND: u8 = 0x90;

/// How many turns of a block are still ahead of those behind it, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCount(u32);

impl BlockCount {
    #[must_use]
    pub const fn new(block: u32, ahead: u32) -> Self {
        Self((block << COUNT_BITS) | ahead)
    }

    #[must_use]
    pub const fn block(self) -> u32 {
        self.0 >> COUNT_BITS
    }

    #[must_use]
    pub const fn ahead(self) -> u32 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }
}

/// What changed since the tick before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// One more than the tick before.
    pub no: u32,
    /// The first turn that was never served: neither admitted nor passed over.
    pub serving: Turn,
    /// By block.
    pub counts: Vec<BlockCount>,
}

impl Tick {
    /// The bytes for everybody: 16, and four per changed block.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let count = u32::try_from(self.counts.len()).expect("fewer blocks than turns");
        bytes.extend([VERSION, KIND, 0, 0]);
        for word in [self.no, self.serving.0, count] {
            bytes.extend(word.to_le_bytes());
        }
        for count in &self.counts {
            bytes.extend(count.0.to_le_bytes());
        }
    }

    /// `None`: these bytes are not one tick of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, counts) = bytes.split_at_checked(HEADER)?;
        let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let whole = counts.len() % 4 == 0 && u32::try_from(counts.len() / 4).ok()? == word(12)?;
        if !whole || header[..4] != [VERSION, KIND, 0, 0] {
            return None;
        }
        let counts = counts.chunks_exact(4).map(|chunk| {
            let count = BlockCount(u32::from_le_bytes(chunk.try_into().ok()?));
            let valid = count.ahead() <= TURNS_PER_BLOCK && count.block() < GATE_TURNS / TURNS_PER_BLOCK;
            valid.then_some(count)
        });
        Some(Self { no: word(4)?, serving: Turn(word(8)?), counts: counts.collect::<Option<_>>()? })
    }
}

impl Gate {
    /// Ends a tick: writes what changed since the last into `tick`. Costs what changed, whoever waits. Changes nothing
    /// but what counts as told, so it is no input. `false`: nothing did, and there is no tick.
    pub fn cut(&mut self, tick: &mut Tick) -> bool {
        tick.serving = self.front;
        tick.counts.clear();
        tick.counts.extend(self.line.take_changed().map(|(block, ahead)| BlockCount::new(block, ahead)));
        let has_news = !tick.counts.is_empty() || self.front != self.told_front;
        if has_news {
            self.tick = self.tick.wrapping_add(1);
            self.told_front = self.front;
        }
        tick.no = self.tick;
        has_news
    }

    /// Where a viewer begins: all blocks with anything ahead, to be followed by the next tick.
    #[must_use]
    pub fn view(&self) -> Tick {
        let counts = self.line.blocks().map(|(block, ahead)| BlockCount::new(block, ahead)).collect();
        Tick { no: self.tick, serving: self.front, counts }
    }

    /// The turns of a block that are still ahead of those behind them.
    #[must_use]
    pub fn bitmap(&self, block: u32) -> Bitmap {
        self.line.bitmap(block)
    }
}

/// The block a turn is in.
#[must_use]
pub const fn block_of(turn: Turn) -> u32 {
    turn.0 / TURNS_PER_BLOCK
}

/// A tick is not the one after the last: begin anew with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// What a client does with ticks: pure, and small enough to be written again in any language.
#[derive(Clone, Debug)]
pub struct Viewer {
    turn: Turn,
    no: u32,
    serving: Turn,
    /// Of the blocks before the turn's own.
    before: Vec<u32>,
    own: Bitmap,
}

impl Viewer {
    /// A waiter in `turn`, with a view and the bitmap of its own block from the same moment.
    #[must_use]
    pub fn new(turn: Turn, view: &Tick, own: Bitmap) -> Self {
        let before = vec![0; block_of(turn) as usize];
        let mut viewer = Self { turn, no: view.no, serving: view.serving, before, own };
        viewer.take(view);
        viewer
    }

    /// The next tick, with the bitmap of the own block if it is among those that changed.
    ///
    /// # Errors
    /// It is not the next.
    pub fn apply(&mut self, tick: &Tick, own: Option<&Bitmap>) -> Result<(), Missed> {
        if tick.no != self.no.wrapping_add(1) {
            return Err(Missed);
        }
        self.no = tick.no;
        self.serving = tick.serving;
        self.take(tick);
        if let Some(own) = own {
            self.own = *own;
        }
        Ok(())
    }

    /// How many are ahead: one less than the rank.
    #[must_use]
    pub fn ahead(&self) -> u32 {
        self.before.iter().sum::<u32>() + self.own.count_before(self.turn.0 % TURNS_PER_BLOCK)
    }

    #[must_use]
    pub const fn serving(&self) -> Turn {
        self.serving
    }

    fn take(&mut self, tick: &Tick) {
        for count in &tick.counts {
            if let Some(before) = self.before.get_mut(count.block() as usize) {
                *before = count.ahead();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_sixteen_bytes_and_four_per_changed_block() {
        let counts = vec![BlockCount::new(0, 4_096), BlockCount::new((1 << 18) - 1, 0)];
        let tick = Tick { no: 7, serving: Turn(1_000_000), counts };
        let mut bytes = Vec::new();
        tick.encode(&mut bytes);
        assert_eq!(bytes.len(), 16 + 4 * 2);
        assert_eq!(Tick::decode(&bytes), Some(tick));
        for end in 0..bytes.len() {
            assert_eq!(Tick::decode(&bytes[..end]), None, "cut at {end}");
        }
        for (at, byte) in [(0, 2), (1, 0x82), (2, 1), (12, 3), (17, 0x10 | 1)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(Tick::decode(&other), None, "byte {at} is {byte}");
        }
    }
}
