//! A shard's memory on its way to the node whose operator audits it: in parts, since a stadium's does not fit into one
//! message, and all of one moment.

use actors::handle::Memory;
use actors::peers::PeerError;
use bytes::{Bytes, BytesMut};
use engine::{ChainHead, Epoch, OptionId, SeatState, ShardId};
use tokio::sync::mpsc;

use super::connection::Chunks;
use super::convert;
use super::wire::{self, MemoryHead, MemoryPart, NotAMessage};

/// Reservations of one part.
const TOGETHER: usize = 4_096;

/// What stands before the parts.
pub fn head(memory: &Memory) -> MemoryHead {
    let Memory { shard, epoch, head, digest, pending, reservations, options } = memory;
    MemoryHead {
        shard: shard.0,
        epoch: epoch.0,
        event_seq: head.event_seq,
        hash: head.hash,
        digest: *digest,
        pending: *pending as u64,
        reservations: reservations.len() as u64,
        options: options.len() as u64,
    }
}

/// Head and parts, written as fast as they are read.
pub fn send(memory: Box<Memory>) -> Chunks {
    let (chunks, body) = Chunks::channel();
    tokio::spawn(async move {
        if let Err(error) = write(&memory, &chunks).await {
            tracing::error!(%error, shard = %memory.shard, "a memory could not be written for a peer");
        }
    });
    body
}

async fn write(memory: &Memory, chunks: &mpsc::Sender<Bytes>) -> Result<(), NotAMessage> {
    let mut bytes = BytesMut::new();
    wire::put(&wire::Returned::Memory(head(memory)), &mut bytes)?;
    let reservations = (memory.reservations.chunks(TOGETHER))
        .map(|rows| MemoryPart::Reservations(rows.iter().map(convert::reservation_out).collect()));
    let options = memory.options.iter().map(|(option, states)| MemoryPart::Seats {
        option: option.0,
        states: states.iter().map(|state| *state as u8).collect(),
    });
    for part in reservations.chain(options) {
        if chunks.send(bytes.split().freeze()).await.is_err() {
            // Whoever asked has gone.
            return Ok(());
        }
        wire::put(&part, &mut bytes)?;
    }
    let _waits = chunks.send(bytes.freeze()).await;
    Ok(())
}

/// A memory of which parts come in.
pub struct Arriving {
    memory: Memory,
    reservations: u64,
    options: u64,
}

impl Arriving {
    pub fn new(head: &MemoryHead) -> Self {
        let memory = Memory {
            shard: ShardId(head.shard),
            epoch: Epoch(head.epoch),
            head: ChainHead { event_seq: head.event_seq, hash: head.hash },
            digest: head.digest,
            pending: usize::try_from(head.pending).unwrap_or(usize::MAX),
            reservations: Vec::new(),
            options: Vec::new(),
        };
        Self { memory, reservations: head.reservations, options: head.options }
    }

    /// Whether no part is missing.
    pub fn is_whole(&self) -> bool {
        let Memory { reservations, options, .. } = &self.memory;
        reservations.len() as u64 >= self.reservations && options.len() as u64 >= self.options
    }

    /// Adds the next part.
    ///
    /// # Errors
    /// It names something that this node does not know.
    pub fn add(&mut self, part: MemoryPart) -> Result<(), PeerError> {
        match part {
            MemoryPart::Reservations(rows) => {
                for row in &rows {
                    self.memory.reservations.push(convert::reservation_in(row).map_err(convert::odd)?);
                }
            }
            MemoryPart::Seats { option, states } => {
                let states = states.into_iter().map(SeatState::from_bits).collect();
                self.memory.options.push((OptionId(option), states));
            }
        }
        Ok(())
    }

    pub fn into_memory(self) -> Box<Memory> {
        Box::new(self.memory)
    }
}
