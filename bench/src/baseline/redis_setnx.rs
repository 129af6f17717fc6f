//! A key in Redis for each soft lock, `SET NX PX`, and a row in PostgreSQL for each seat that is held.

use redis::aio::MultiplexedConnection;
use redis::{Script, cmd};
use uuid::Uuid;

use super::{CONFIRMED, Database, HOLD, Refusal, Reservation, SELECTING, Seats};

const SOFT_LOCK_MILLIS: u32 = 30_000;
/// For the hold to be paid; a row keeps the seat from being sold twice even after that.
const HOLD_MILLIS: u32 = 300_000;
/// Values of keys are user ids, and these.
const HELD: i64 = -(HOLD as i64);
const SOLD: i64 = -(CONFIRMED as i64);
/// Keys that one command reads: nobody else is served meanwhile.
const KEYS_AT_ONCE: usize = 5_000;

/// All keys or none: which of them are somebody else's.
const TAKE: &str = "
local taken = {}
for i, owner in ipairs(redis.call('MGET', unpack(KEYS))) do
    if owner and owner ~= ARGV[1] then taken[#taken + 1] = i - 1 end
end
if #taken == 0 then
    for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
end
return taken";

/// The user's own keys are held, all or none: how many are not the user's.
const KEEP: &str = "
local others = 0
for _, owner in ipairs(redis.call('MGET', unpack(KEYS))) do
    if owner ~= ARGV[1] then others = others + 1 end
end
if others == 0 then
    for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[3], 'PX', ARGV[2]) end
end
return others";

const RELEASE: &str = "
local released = {}
for i, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then
        redis.call('DEL', key)
        released[#released + 1] = i - 1
    end
end
return released";

/// A row for each seat: its primary key is what refuses the second sale.
const INSERT: &str = "
WITH reservation AS (
    INSERT INTO reservations (id, user_id, seats, held) VALUES ($1, $3, $2, cardinality($2::int[]))
)
INSERT INTO held (option_id, seat_no, reservation) SELECT 1, unnest($2::int[]), $1";

const CONFIRM: &str =
    "UPDATE reservations SET status = 3 WHERE id = $1 AND status = 2 RETURNING user_id, seats, status";

const CANCEL: &str = "
WITH freed AS (
    UPDATE reservations SET status = 4 WHERE id = $1 AND status IN (2, 3) RETURNING user_id, seats, status
), seats_of_it AS (
    DELETE FROM held USING freed WHERE option_id = 1 AND seat_no = ANY(freed.seats)
)
SELECT user_id, seats, status FROM freed";

pub struct RedisSetnx {
    database: Database,
    redis: MultiplexedConnection,
    seat_count: u32,
    take: Script,
    keep: Script,
    release: Script,
}

impl RedisSetnx {
    pub fn new(database: Database, redis: MultiplexedConnection, seat_count: u32) -> Self {
        let (take, keep, release) = (Script::new(TAKE), Script::new(KEEP), Script::new(RELEASE));
        Self { database, redis, seat_count, take, keep, release }
    }

    /// What a script says about the seats, with a value and times.
    async fn invoke<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        seats: &[i32],
        args: &[i64],
    ) -> Result<T, Refusal> {
        let mut invocation = script.prepare_invoke();
        for seat in seats {
            invocation.key(key(*seat));
        }
        for arg in args {
            invocation.arg(*arg);
        }
        Ok(invocation.invoke_async(&mut self.redis.clone()).await?)
    }
}

impl Seats for RedisSetnx {
    fn database(&self) -> &Database {
        &self.database
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        if let [seat] = seats {
            // With GET it says whose the seat is in the same round trip, and nothing when it was free.
            let mut set = cmd("SET");
            set.arg(key(*seat)).arg(user).arg("NX").arg("GET").arg("PX").arg(SOFT_LOCK_MILLIS);
            match set.query_async::<Option<i64>>(&mut self.redis.clone()).await? {
                None => return Ok(()),
                Some(owner) if owner != user => return Err(Refusal::Taken(vec![*seat])),
                Some(_) => {}
            }
        }
        let taken: Vec<usize> = self.invoke(&self.take, seats, &[user, i64::from(SOFT_LOCK_MILLIS)]).await?;
        if taken.is_empty() { Ok(()) } else { Err(Refusal::Taken(at(seats, &taken))) }
    }

    async fn release(&self, user: i64, seats: &[i32]) -> Result<Vec<i32>, Refusal> {
        let released: Vec<usize> = self.invoke(&self.release, seats, &[user]).await?;
        Ok(at(seats, &released))
    }

    /// The keys first: a click that comes meanwhile is refused. Where the row cannot be made, they run out.
    async fn hold(&self, user: i64, seats: &[i32]) -> Result<Reservation, Refusal> {
        let others: u32 = self.invoke(&self.keep, seats, &[user, i64::from(HOLD_MILLIS), HELD]).await?;
        if others > 0 {
            return Err(Refusal::NotSelected);
        }
        self.database.hold_by(INSERT, user, seats).await
    }

    async fn confirm(&self, id: Uuid) -> Result<Reservation, Refusal> {
        let reservation = self.database.transition(CONFIRM, id, CONFIRMED).await?;
        let mut set = cmd("MSET");
        for seat in &reservation.seats {
            set.arg(key(*seat)).arg(SOLD);
        }
        set.exec_async(&mut self.redis.clone()).await?;
        Ok(reservation)
    }

    async fn cancel(&self, id: Uuid) -> Result<Reservation, Refusal> {
        let reservation = self.database.transition(CANCEL, id, super::CANCELLED).await?;
        let keys: Vec<String> = reservation.seats.iter().copied().map(key).collect();
        cmd("DEL").arg(keys).exec_async(&mut self.redis.clone()).await?;
        Ok(reservation)
    }

    async fn map(&self) -> Result<Vec<(i32, i16)>, Refusal> {
        let all: Vec<i32> = (0..i32::try_from(self.seat_count)?).collect();
        let mut map = Vec::new();
        for seats in all.chunks(KEYS_AT_ONCE) {
            let keys: Vec<String> = seats.iter().copied().map(key).collect();
            let owners: Vec<Option<i64>> = cmd("MGET").arg(keys).query_async(&mut self.redis.clone()).await?;
            map.extend(seats.iter().zip(owners).filter_map(|(seat, owner)| Some((*seat, state(owner?)))));
        }
        Ok(map)
    }
}

fn key(seat: i32) -> String {
    format!("seat:{seat}")
}

fn state(owner: i64) -> i16 {
    match owner {
        HELD => HOLD,
        SOLD => CONFIRMED,
        _ => SELECTING,
    }
}

fn at(seats: &[i32], places: &[usize]) -> Vec<i32> {
    places.iter().filter_map(|place| seats.get(*place).copied()).collect()
}
