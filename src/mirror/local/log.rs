//! A gate's copy as a file: what there was, and every batch since.
//!
//! ```text
//! file   = "hsgate1\n" | u64 concert | record (whole) | record (changes)*
//! record = u32 kind (1 whole, 2 changes) | u32 count | u64 epoch | u64 op | u32 next | u32 sum of the changes
//!          | u32 sum of this head | count × change
//! change = u32 kind | u32 turn | u64 user | u64 pass | i64 end
//! ```
//!
//! Little-endian; sums are CRC-32. What `write` has taken survives the process, `kill -9` too, but not the machine's power:
//! nothing waits for the disk, as with a Redis. A process that dies in the middle of a write leaves the beginning of a
//! record: it was not acknowledged, and is cut off. Everything else that does not add up is damage, and an error: nobody
//! may lose their place without anybody having heard of it. A whole file comes under another name and is then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use actors::gates::ports::GateBatch;
use engine::gate::{Draw, MirrorOp};
use engine::{ConcertId, Epoch, PassId, Time, Turn, UserId};
use flate2::Crc;

use super::gate::GateCopy;

const MAGIC: &[u8; 8] = b"hsgate1\n";
const FILE_HEAD: usize = 16;
const HEAD: usize = 36;
/// What the sum of a head is over.
const SUMMED: usize = HEAD - 4;
const CHANGE: usize = 32;

const WHOLE: u32 = 1;
const CHANGES: u32 = 2;

/// Batches are not folded before they come to this: about 30,000 changes.
const FOLD_FROM: u64 = 1 << 20;

/// A file that ends in a whole record.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    len: u64,
    /// How long it may get before it is folded.
    fold_at: u64,
}

impl Log {
    /// Writes a copy into a new file, which takes the place of the one there.
    pub fn create(path: &Path, concert: ConcertId, copy: &GateCopy) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        // What a process left that died before it could rename it.
        fs::remove_file(&fresh).or_else(|error| missing(error, ()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(concert.0.to_le_bytes());
        record(&mut bytes, WHOLE, (copy.epoch, copy.op), copy.next, copy.changes());
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&fresh)?;
        if let Err(error) = file.write_all(&bytes).and_then(|()| fs::rename(&fresh, path)) {
            // Half of it must not fill a disk that is full already; the next try takes away what stays.
            let _stays = fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(Self::ends_at(file, bytes.len() as u64, bytes.len() as u64))
    }

    fn ends_at(file: File, len: u64, whole: u64) -> Self {
        Self { file, len, fold_at: whole + whole.max(FOLD_FROM) }
    }

    /// What there is, and the file to go on with. `None`: no file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: &Path, concert: ConcertId) -> io::Result<Option<(Self, GateCopy)>> {
        let opened = OpenOptions::new().read(true).append(true).open(path);
        let Some(mut file) = opened.map(Some).or_else(|error| missing(error, None))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Loaded { copy, whole, len } = load(&bytes, concert)?;
        if len < bytes.len() {
            let bytes = bytes.len() - len;
            tracing::warn!(path = %path.display(), bytes, "a gate's file ended within a record, which was cut off");
            file.set_len(len as u64)?;
        }
        Ok(Some((Self::ends_at(file, len as u64, whole as u64), copy)))
    }

    pub fn append(&mut self, batch: &GateBatch) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + CHANGE * batch.changes.len());
        record(&mut bytes, CHANGES, (batch.epoch, batch.op), Turn(0), batch.changes.iter().copied());
        self.file.write_all(&bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Takes away what a write has left that failed half-way.
    pub fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.len)
    }

    /// Whether the batches are more than what there was before them.
    pub const fn is_long(&self) -> bool {
        self.len > self.fold_at
    }

    /// Let it grow to twice its length before it is folded.
    pub const fn grow(&mut self) {
        self.fold_at = 2 * self.len;
    }
}

fn missing<T>(error: io::Error, instead: T) -> io::Result<T> {
    if error.kind() == ErrorKind::NotFound { Ok(instead) } else { Err(error) }
}

struct Loaded {
    copy: GateCopy,
    /// Bytes up to the end of the first record.
    whole: usize,
    /// Bytes up to the end of the last whole record.
    len: usize,
}

/// Reads a whole file.
fn load(bytes: &[u8], concert: ConcertId) -> io::Result<Loaded> {
    let head: &[u8; FILE_HEAD] = bytes.first_chunk().ok_or_else(|| damaged(0, "it has no head"))?;
    let (magic, named) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged(0, "it is no gate's file of this version"));
    }
    let named = u64_at(named, 0);
    if named != concert.0 {
        return Err(damaged(0, format_args!("it is of concert {named}")));
    }
    let mut loaded = Loaded { copy: GateCopy::at(Epoch(0), 0), whole: 0, len: FILE_HEAD };
    while let Some(record) = Record::read(&bytes[loaded.len..]).map_err(|what| damaged(loaded.len, what))? {
        let is_first = loaded.whole == 0;
        if (record.kind == WHOLE) != is_first || record.kind > CHANGES {
            return Err(damaged(loaded.len, format_args!("a record of kind {}", record.kind)));
        }
        for change in record.changes.chunks_exact(CHANGE) {
            let change = decode(change).ok_or_else(|| damaged(loaded.len, "an unknown change"))?;
            loaded.copy.change(&change);
        }
        let copy = &mut loaded.copy;
        (copy.epoch, copy.op, copy.next) = (record.epoch, record.op, copy.next.max(record.next));
        loaded.len += HEAD + record.changes.len();
        if is_first {
            loaded.whole = loaded.len;
        }
    }
    if loaded.whole == 0 {
        return Err(damaged(loaded.len, "its first record is not whole"));
    }
    Ok(loaded)
}

fn damaged(at: usize, what: impl std::fmt::Display) -> io::Error {
    let advice =
        "Stop the node and put a copy of it in its place, or take it away: then whoever was in it joins anew";
    io::Error::new(ErrorKind::InvalidData, format!("damaged at byte {at}: {what}. {advice}"))
}

struct Record<'a> {
    kind: u32,
    epoch: Epoch,
    op: u64,
    next: Turn,
    changes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first of `bytes`; `None` where they are only its beginning.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, &'static str> {
        let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
        // Before its length is believed: a wrong one would look as if everything behind it were missing.
        if sum(&head[..SUMMED]) != u32_at(head, SUMMED) {
            return Err("the head of a record does not add up");
        }
        let len = (u32_at(head, 4) as usize).saturating_mul(CHANGE);
        let Some(changes) = rest.get(..len) else { return Ok(None) };
        if sum(changes) != u32_at(head, 28) {
            return Err("the changes of a record do not add up");
        }
        Ok(Some(Self {
            kind: u32_at(head, 0),
            epoch: Epoch(u64_at(head, 8)),
            op: u64_at(head, 16),
            next: Turn(u32_at(head, 24)),
            changes,
        }))
    }
}

/// Appends a record.
fn record(
    bytes: &mut Vec<u8>,
    kind: u32,
    (epoch, op): (Epoch, u64),
    next: Turn,
    changes: impl Iterator<Item = MirrorOp>,
) {
    let start = bytes.len();
    bytes.resize(start + HEAD, 0);
    changes.for_each(|change| encode(bytes, &change));
    let (head, changes) = bytes[start..].split_at_mut(HEAD);
    let count = u32::try_from(changes.len() / CHANGE).expect("a gate has far fewer than 2^32 turns");
    head[..4].copy_from_slice(&kind.to_le_bytes());
    head[4..8].copy_from_slice(&count.to_le_bytes());
    head[8..16].copy_from_slice(&epoch.0.to_le_bytes());
    head[16..24].copy_from_slice(&op.to_le_bytes());
    head[24..28].copy_from_slice(&next.0.to_le_bytes());
    head[28..32].copy_from_slice(&sum(changes).to_le_bytes());
    let summed = sum(&head[..SUMMED]);
    head[SUMMED..].copy_from_slice(&summed.to_le_bytes());
}

fn encode(bytes: &mut Vec<u8>, change: &MirrorOp) {
    let (kind, turn, user, pass, end) = match *change {
        MirrorOp::Join { user, turn } => (1u32, turn.0, user.0, 0, 0),
        MirrorOp::Remove { user, turn } => (2, turn.0, user.0, 0, 0),
        MirrorOp::Admit { user, turn, pass, ends_at } => (3, turn.0, user.0, pass.0, ends_at.0),
        MirrorOp::End { user, pass } => (4, 0, user.0, pass.0, 0),
        MirrorOp::Draw(Draw::Due) => (5, 0, 0, 0, 0),
        MirrorOp::Draw(Draw::Frozen { first, upto }) => (6, first.0, u64::from(upto.0), 0, 0),
        MirrorOp::Draw(Draw::Done) => (7, 0, 0, 0, 0),
        // Comes as a rebuild, and never in a batch.
        MirrorOp::Rebuild => return,
    };
    bytes.extend(kind.to_le_bytes());
    bytes.extend(turn.to_le_bytes());
    bytes.extend(user.to_le_bytes());
    bytes.extend(pass.to_le_bytes());
    bytes.extend(end.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Option<MirrorOp> {
    let (turn, user, pass) = (Turn(u32_at(bytes, 4)), UserId(u64_at(bytes, 8)), PassId(u64_at(bytes, 16)));
    Some(match u32_at(bytes, 0) {
        1 => MirrorOp::Join { user, turn },
        2 => MirrorOp::Remove { user, turn },
        3 => MirrorOp::Admit { user, turn, pass, ends_at: Time(u64_at(bytes, 24).cast_signed()) },
        4 => MirrorOp::End { user, pass },
        5 => MirrorOp::Draw(Draw::Due),
        6 => MirrorOp::Draw(Draw::Frozen { first: turn, upto: Turn(u32::try_from(user.0).ok()?) }),
        7 => MirrorOp::Draw(Draw::Done),
        _ => return None,
    })
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|place| bytes[at + place]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|place| bytes[at + place]))
}
