//! What gates tell everybody. The line of a million is 245 bitmaps; whatever a line may become fits into one message,
//! because a block of few takes two bytes for each of them.

use actors::gates::{Line, News};
use bytes::{Buf as _, Bytes};
use engine::gate::{Bitmap, Pace, PassEnd, Tick};
use engine::limits::{GATE_TURNS, GATE_UNMIRRORED, GATE_WAITERS, TURNS_PER_BLOCK};
use engine::{ConcertId, PassId, UserId};

use super::Unknown;
use super::gate::{pass_in, pass_out};
use crate::cluster::data::wire::BYTES_MAX;
use crate::cluster::data::wire::gate as wire;

/// What stands before a bitmap with more turns than are told one by one.
const WHOLE: u16 = u16::MAX;

/// With as many turns a bitmap is shorter as it is.
const MANY: u32 = TURNS_PER_BLOCK / 16;

/// The longest line in the most blocks. Two bytes a turn are the most that one costs, since whoever is told as a whole
/// bitmap is one of at least `MANY`.
const _: () = assert!(
    (GATE_TURNS / TURNS_PER_BLOCK) as usize * (4 + 2) + (GATE_WAITERS + GATE_UNMIRRORED) * 2 < BYTES_MAX / 2
);

/// What a peer told, as it arrives.
pub type Told = (ConcertId, News);

pub fn told_out(concert: ConcertId, news: &News) -> wire::Told {
    let news = match news {
        News::View(line) => wire::News::View(line_out(line)),
        News::Tick(line) => wire::News::Tick(line_out(line)),
        News::Admitted { user, pass, durable } => {
            wire::News::Admitted { user: user.0, pass: pass_out(pass), durable: *durable }
        }
        News::Ended { user, pass, why } => {
            wire::News::Ended { user: user.0, pass: pass.0, why: end_out(*why) }
        }
    };
    wire::Told { concert: concert.0, news }
}

pub fn told_in(told: wire::Told) -> Result<Told, Unknown> {
    let news = match told.news {
        wire::News::View(line) => News::View(line_in(line)?),
        wire::News::Tick(line) => News::Tick(line_in(line)?),
        wire::News::Admitted { user, pass, durable } => {
            News::Admitted { user: UserId(user), pass: pass_in(&pass), durable }
        }
        wire::News::Ended { user, pass, why } => {
            News::Ended { user: UserId(user), pass: PassId(pass), why: end_in(why)? }
        }
    };
    Ok((ConcertId(told.concert), news))
}

fn line_out(line: &Line) -> wire::Line {
    let Line { tick, bitmaps, pace, has_ranks } = line;
    let mut counts = Vec::new();
    tick.encode(&mut counts);
    let mut bits = Vec::new();
    bitmaps.iter().for_each(|bitmap| bitmap_out(bitmap, &mut bits));
    let pace = pace.map(|Pace { mean, variance, seconds }| (mean, variance, seconds));
    wire::Line { tick: counts.into(), bitmaps: bits.into(), pace, has_ranks: *has_ranks }
}

fn line_in(line: wire::Line) -> Result<Line, Unknown> {
    let wire::Line { tick, mut bitmaps, pace, has_ranks } = line;
    let tick = Tick::decode(&tick).ok_or(Unknown("a tick"))?;
    let bits = tick.counts.iter().map(|_| bitmap_in(&mut bitmaps)).collect::<Option<Vec<_>>>();
    let bits = bits.filter(|_| bitmaps.is_empty()).ok_or(Unknown("a bitmap"))?;
    let pace = pace.map(pace_in).transpose()?;
    Ok(Line { tick, bitmaps: bits, pace, has_ranks })
}

/// Whoever estimates divides by it.
fn pace_in((mean, variance, seconds): (f64, f64, u32)) -> Result<Pace, Unknown> {
    let is_sane = mean.is_finite() && mean > 0.0 && variance.is_finite() && variance >= 0.0 && seconds > 1;
    if is_sane { Ok(Pace { mean, variance, seconds }) } else { Err(Unknown("a pace")) }
}

fn bitmap_out(bitmap: &Bitmap, bytes: &mut Vec<u8>) {
    let turns = bitmap.count_before(TURNS_PER_BLOCK);
    if turns >= MANY {
        bytes.extend(WHOLE.to_le_bytes());
        bytes.extend(bitmap.0.iter().flat_map(|word| word.to_le_bytes()));
        return;
    }
    // All of them are below 4,096.
    let short = |number: u32| u16::try_from(number).unwrap_or(WHOLE).to_le_bytes();
    bytes.extend(short(turns));
    bytes.extend(bitmap.iter().flat_map(short));
}

/// `None`: they do not begin with one.
fn bitmap_in(bytes: &mut Bytes) -> Option<Bitmap> {
    let mut bitmap = Bitmap::default();
    match bytes.try_get_u16_le().ok()? {
        WHOLE => {
            for word in &mut bitmap.0 {
                *word = bytes.try_get_u64_le().ok()?;
            }
        }
        turns if u32::from(turns) < MANY => {
            for _ in 0..turns {
                let turn = u32::from(bytes.try_get_u16_le().ok()?);
                // Neither beyond the block nor twice.
                if turn >= TURNS_PER_BLOCK || !bitmap.set(turn) {
                    return None;
                }
            }
        }
        _ => return None,
    }
    Some(bitmap)
}

const fn end_out(end: PassEnd) -> u8 {
    match end {
        PassEnd::GivenBack => 1,
        PassEnd::Expired => 2,
    }
}

const fn end_in(number: u8) -> Result<PassEnd, Unknown> {
    Ok(match number {
        1 => PassEnd::GivenBack,
        2 => PassEnd::Expired,
        _ => return Err(Unknown("a pass's end")),
    })
}

#[cfg(test)]
mod tests;
