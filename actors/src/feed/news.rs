//! What one node's hub tells another's: the frames of `hotseat.bin.1`, read back.

use engine::{Epoch, OptionId, SeatState};

use super::Position;

/// A frame as another hub cut it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub option: OptionId,
    pub to: Position,
    pub change: Change,
}

/// What a frame brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Every seat, in order.
    Whole { states: Vec<SeatState> },
    /// These seats, for whoever has the map of `from`.
    Some { from: Position, set: Vec<(u32, SeatState)> },
}

/// Bytes that are no binary message of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no binary message of the feed")]
pub struct NotNews;

/// Reads a message from its front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NotNews> {
        let (head, rest) = self.0.split_first_chunk().ok_or(NotNews)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, NotNews> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, NotNews> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn position(&mut self) -> Result<Position, NotNews> {
        Ok(Position { epoch: Epoch(self.u64()?), seq: self.u64()? })
    }
}

impl News {
    /// Reads what [`super::Frame::binary`] wrote.
    ///
    /// # Errors
    /// Any other bytes, and any byte too few or too many.
    pub fn read(bytes: &[u8]) -> Result<Self, NotNews> {
        let mut bytes = Bytes(bytes);
        let option = OptionId(bytes.u32()?);
        match bytes.take()? {
            [1, 2] => {
                let to = bytes.position()?;
                let seats = bytes.u32()? as usize;
                if bytes.0.len() != seats.div_ceil(4) {
                    return Err(NotNews);
                }
                let state = |seat: usize| SeatState::from_bits(bytes.0[seat / 4] >> (2 * (seat % 4)));
                Ok(Self { option, to, change: Change::Whole { states: (0..seats).map(state).collect() } })
            }
            [1, kind @ (0x82 | 0x83)] => {
                let from = bytes.position()?;
                let to = match kind {
                    0x82 => Position { epoch: from.epoch, seq: bytes.u64()? },
                    _ => bytes.position()?,
                };
                let changes = bytes.u32()? as usize;
                if bytes.0.len() != 4 * changes {
                    return Err(NotNews);
                }
                let (packed, _) = bytes.0.as_chunks();
                let seat = |packed: &[u8; 4]| {
                    let packed = u32::from_le_bytes(*packed);
                    (packed >> 2, SeatState::from_bits((packed & 3) as u8))
                };
                let set = packed.iter().map(seat).collect();
                Ok(Self { option, to, change: Change::Some { from, set } })
            }
            _ => Err(NotNews),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use engine::{SeatChange, SeatNo};
    use tokio::time::Instant;

    use super::*;
    use crate::feed::Hub;
    use crate::observe::Metrics;

    const OPTION: OptionId = OptionId(7);

    fn hub() -> Arc<Hub> {
        let hub = Arc::new(Hub::new(Duration::from_millis(50), Metrics::default()));
        tokio::spawn(hub.clone().run());
        hub
    }

    fn change(seat: u32, state: SeatState, feed_seq: u64) -> SeatChange {
        SeatChange { option: OPTION, seat: SeatNo(seat), state, feed_seq }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_follows_another_shows_the_same_and_its_viewers_go_on_through_a_new_epoch() {
        let (theirs, mine) = (hub(), hub());
        let inlet = theirs.open(OPTION, Epoch(1), 0, [SeatState::Available; 9].into_iter());
        let mut upstream = theirs.watch(OPTION, None).unwrap();
        let whole = News::read(&upstream.next().await.unwrap().binary()).unwrap();
        assert!(mine.follow(&whole));
        let mut viewer = mine.watch(OPTION, None).unwrap();
        assert_eq!(viewer.next().await.unwrap().event(), "snapshot");
        inlet.apply(Instant::now(), &change(3, SeatState::Selecting, 1));
        inlet.apply(Instant::now(), &change(8, SeatState::Hold, 2));
        let some = News::read(&upstream.next().await.unwrap().binary()).unwrap();
        assert!(mine.follow(&some) && !mine.follow(&some), "once, and then it does not fit");
        assert_eq!(mine.snapshot(OPTION), theirs.snapshot(OPTION));
        assert_eq!(
            &viewer.next().await.unwrap().text()[..],
            br#"{"ev":"changes","option":7,"from":"1.0","to":"1.2","set":[[3,1],[8,2]]}"#
        );
        theirs.open(OPTION, Epoch(2), 0, [SeatState::Available; 9].into_iter());
        let turned = News::read(&upstream.next().await.unwrap().binary()).unwrap();
        assert!(mine.follow(&turned));
        assert_eq!(
            &viewer.next().await.unwrap().text()[..],
            br#"{"ev":"continues","option":7,"from":"1.2","to":"2.0","set":[[3,0],[8,0]]}"#
        );
        assert_eq!(mine.snapshot(OPTION), theirs.snapshot(OPTION));
        assert!(!mine.follow(&whole), "an old map comes too late");
    }

    #[test]
    fn other_bytes_are_no_news() {
        let mut whole = vec![7, 0, 0, 0, 1, 2];
        whole.extend_from_slice(&[0; 16]);
        whole.extend_from_slice(&[5, 0, 0, 0, 0b01, 0]);
        assert!(News::read(&whole).is_ok());
        for length in 0..whole.len() {
            assert_eq!(News::read(&whole[..length]), Err(NotNews), "{length} bytes");
        }
        whole.push(0);
        assert_eq!(News::read(&whole), Err(NotNews));
        whole[5] = 3;
        assert_eq!(News::read(&whole), Err(NotNews));
    }
}
