//! Every bound of the engine, with its reason. A relation between bounds that must hold is asserted
//! at compile time, beside the sentence that says what would break.

use crate::time::Span;

/// Seats in one command and in one reservation.
pub const SEATS_PER_COMMAND: usize = 8;

/// Soft locks one user may have in one concert. A user holds no more than one reservation's worth.
pub const SOFT_LOCKS_PER_USER: usize = 8;

/// A command's seats must fit into its user's soft locks, or a full party could never be selected.
const _: () = assert!(SEATS_PER_COMMAND <= SOFT_LOCKS_PER_USER);

/// Seats of one option. The largest stadiums seat 150,000.
pub const SEATS_PER_OPTION: u32 = 200_000;

/// Seats of one shard over all its options: the index of a seat in its shard is a u32, and the
/// memory of a shard stays below two gigabytes.
pub const SEATS_PER_SHARD: u32 = 1 << 24;

const _: () = assert!(SEATS_PER_OPTION <= SEATS_PER_SHARD);

/// Price categories of one plan; a seat stores its category in a byte.
pub const CATEGORIES_PER_PLAN: usize = 255;

/// Sections of one plan.
pub const SECTIONS_PER_PLAN: usize = 4_096;

/// Answered idempotency keys a shard remembers. A key inside the horizon is never evicted: at the
/// bound new ledger commands are refused as overload. One million keys in 15 minutes are 1,100
/// ledger commands a second, sustained, on one concert.
pub const ANSWERED_KEYS: usize = 1 << 20;

const _: () = assert!(ANSWERED_KEYS >= 1_000_000);

/// Commands that may wait behind the pending entry of one reservation, retries of its key included.
pub const WAITERS_PER_ENTRY: usize = 64;

/// Ledger commands whose outcome a shard may still owe, waiters included. The shell hands out as
/// many permits, so that the engine's own check never fires in production.
pub const LEDGER_REPLIES: usize = 4_096;

/// Commands sent to a shard and not yet decided.
pub const UNDECIDED_COMMANDS: usize = 4_096;

/// How long a seat is refused to the user who kept it for `select.max_age`.
pub const SELECT_COOL_DOWN: Span = Span::from_secs(10);

/// Options of one shard: a seat stores its option's index in 16 bits.
pub const OPTIONS_PER_SHARD: usize = 1 << 16;

/// Concerts of one shard: those with options, and those that have only a policy so far.
pub const CONCERTS_PER_SHARD: usize = 1 << 16;

/// Live reservations of one user in one concert, whatever the policy says.
pub const RESERVATIONS_PER_USER: u32 = (1 << 20) - 1;

/// People who may wait at one gate.
pub const GATE_WAITERS: usize = 1 << 22;

/// Turns one gate ever gives out. Rejoining takes a new one, so this is far beyond [`GATE_WAITERS`]; a block's
/// number beside its count still fits into 32 bits.
pub const GATE_TURNS: u32 = 1 << 30;

const _: () = assert!(GATE_WAITERS <= GATE_TURNS as usize);

/// Turns of one block: what a viewer's count covers, and one bit each in a waiter's bitmap.
pub const TURNS_PER_BLOCK: u32 = 4_096;

/// A count of 0..=4,096 takes 13 bits, and the block's number has the rest of a u32.
const _: () = assert!((GATE_TURNS / TURNS_PER_BLOCK) <= 1 << (32 - 13) && TURNS_PER_BLOCK < 1 << 13);

/// Live passes of one gate, whatever its policy says.
pub const GATE_PASSES: u32 = 1 << 20;

/// Admissions per second a policy may ask for.
pub const GATE_PER_SECOND: u32 = 1_000_000;

/// A second's admissions must fit, or a gate without a ceiling would never reach its rate.
const _: () = assert!(GATE_PER_SECOND <= GATE_PASSES);

/// What a gate may owe its mirror before it refuses joins, and lets absent waiters be until the mirror has caught
/// up: a silent mirror must not cost memory without end. At a million joins a second this is a mirror 65 ms late.
pub const GATE_UNMIRRORED: usize = 1 << 16;

/// Blocks whose absent waiters are removed at one go, so that a step is short and its effects few when half a million
/// people have closed their browsers at the same time. The next step follows at once.
pub const GATE_BLOCKS_PER_REMOVAL: usize = 8;
