//! A line as the last tick left it.

use bytes::Bytes;
use engine::Turn;
use engine::gate::{Bitmap, BlockCount, Pace, Tick, block_of};
use engine::limits::TURNS_PER_BLOCK;

use super::super::news::Line;

/// What a board shows. Nothing before the first view.
#[derive(Debug, Default)]
pub struct Shown {
    /// How many views there were: with each, what was told before is void.
    pub views: u64,
    pub no: u32,
    serving: Turn,
    /// By block.
    counts: Vec<u32>,
    /// How many are ahead of a block's first turn.
    before: Vec<u32>,
    bitmaps: Vec<Bitmap>,
    /// When each block last changed.
    changed: Vec<u32>,
    pace: Option<Pace>,
    has_ranks: bool,
    /// The newest tick, encoded.
    pub tick: Bytes,
}

/// Where somebody with a turn is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    pub ahead: u32,
    /// How far the front has to move for it to be their turn.
    pub distance: u32,
    pub pace: Option<Pace>,
}

impl Shown {
    /// Begins anew.
    pub fn begin(&mut self, line: &Line) {
        let views = self.views + 1;
        *self = Self { views, ..Self::default() };
        self.apply(line);
    }

    /// Goes on with the next tick; whether it is the next. Any other is of a line that is not shown any more.
    pub fn go_on(&mut self, line: &Line) -> bool {
        let is_next = self.views > 0 && line.tick.no == self.no.wrapping_add(1);
        if is_next {
            self.apply(line);
        }
        is_next
    }

    fn apply(&mut self, line: &Line) {
        let Line { tick, bitmaps, pace, has_ranks } = line;
        (self.no, self.serving, self.pace, self.has_ranks) = (tick.no, tick.serving, *pace, *has_ranks);
        for (count, bitmap) in tick.counts.iter().zip(bitmaps) {
            let block = count.block() as usize;
            if block >= self.counts.len() {
                self.counts.resize(block + 1, 0);
                self.bitmaps.resize(block + 1, Bitmap::default());
                self.changed.resize(block + 1, tick.no);
            }
            self.counts[block] = count.ahead();
            self.bitmaps[block] = *bitmap;
            self.changed[block] = tick.no;
        }
        self.before.clear();
        let mut ahead = 0;
        for count in &self.counts {
            self.before.push(ahead);
            ahead += count;
        }
        self.before.push(ahead);
        let mut bytes = Vec::with_capacity(16 + 4 * tick.counts.len());
        tick.encode(&mut bytes);
        self.tick = bytes.into();
    }

    /// `None`: ranks mean nothing now, or the turn is not in the line that is shown: not yet, or no more.
    pub fn at(&self, turn: Turn) -> Option<At> {
        let own = self.bitmaps.get(block_of(turn) as usize)?;
        if !self.has_ranks || !own.has(turn.0 % TURNS_PER_BLOCK) {
            return None;
        }
        let ahead = self.ahead_of(turn);
        let distance =
            if turn < self.serving { 1 } else { ahead + 1 - self.ahead_of(self.serving).min(ahead) };
        Some(At { ahead, distance, pace: self.pace })
    }

    fn ahead_of(&self, turn: Turn) -> u32 {
        let block = block_of(turn) as usize;
        match self.bitmaps.get(block) {
            Some(bitmap) => self.before[block] + bitmap.count_before(turn.0 % TURNS_PER_BLOCK),
            // Behind everything that was ever shown.
            None => self.before.last().copied().unwrap_or(0),
        }
    }

    /// Everything, as a tick that a client may begin with.
    pub fn view(&self) -> Bytes {
        let counts = (0..).zip(&self.counts).filter(|(_, ahead)| **ahead > 0);
        let counts = counts.map(|(block, ahead)| BlockCount::new(block, *ahead)).collect();
        let mut bytes = Vec::new();
        Tick { no: self.no, serving: self.serving, counts }.encode(&mut bytes);
        bytes.into()
    }

    /// The same, with the bitmaps.
    pub fn line(&self) -> Line {
        let blocks = (0..).zip(&self.counts).zip(&self.bitmaps).filter(|((_, ahead), _)| **ahead > 0);
        let (counts, bitmaps) =
            blocks.map(|((block, ahead), bitmap)| (BlockCount::new(block, *ahead), *bitmap)).unzip();
        let tick = Tick { no: self.no, serving: self.serving, counts };
        Line { tick, bitmaps, pace: self.pace, has_ranks: self.has_ranks }
    }

    /// The bitmap of a turn's block, where it changed with or after tick `since`.
    pub fn block(&self, turn: Turn, since: Option<u32>) -> Option<Bitmap> {
        let block = block_of(turn) as usize;
        let is_news = since.is_none_or(|since| {
            self.changed
                .get(block)
                .is_some_and(|changed| *changed != since && changed.wrapping_sub(since) < 1 << 31)
        });
        is_news.then(|| self.bitmaps.get(block).copied().unwrap_or_default())
    }
}
