//! A lock in Redis for each seat, around a transaction that reads the row and then writes it.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Script, cmd};
use uuid::Uuid;

use super::sales::{READ_TAKEN, WRITE};
use super::{Database, Refusal, Reservation, Seats};

/// The lock of a server that died runs out.
const LOCK_MILLIS: u32 = 10_000;
/// As libraries for such locks do: asks again, less and less often, and then gives up.
const PATIENCE: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// All locks of a party or none.
const LOCK: &str = "
if redis.call('EXISTS', unpack(KEYS)) > 0 then return 0 end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1";

const UNLOCK: &str = "
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end";

pub struct RedisLock {
    database: Database,
    redis: MultiplexedConnection,
    lock: Script,
    unlock: Script,
}

impl RedisLock {
    pub fn new(database: Database, redis: MultiplexedConnection) -> Self {
        Self { database, redis, lock: Script::new(LOCK), unlock: Script::new(UNLOCK) }
    }

    /// Does something while nobody else does anything with the seats.
    async fn locked<T>(
        &self,
        seats: &[i32],
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let keys: Vec<String> = seats.iter().map(|seat| format!("lock:{seat}")).collect();
        let token = Uuid::new_v4();
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        while !self.try_lock(&keys, token).await? {
            if Instant::now() + pause > deadline {
                return Err(Refusal::Taken(seats.to_vec()));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let done = work.await;
        let mut unlock = self.unlock.arg(token.as_bytes());
        for key in &keys {
            unlock.key(key);
        }
        let () = unlock.invoke_async(&mut self.redis.clone()).await?;
        done
    }

    async fn try_lock(&self, keys: &[String], token: Uuid) -> Result<bool, Refusal> {
        let mut redis = self.redis.clone();
        if let [key] = keys {
            let mut set = cmd("SET");
            set.arg(key).arg(token.as_bytes()).arg("NX").arg("PX").arg(LOCK_MILLIS);
            return Ok(set.query_async::<Option<String>>(&mut redis).await?.is_some());
        }
        let mut lock = self.lock.arg(token.as_bytes());
        for key in keys {
            lock.key(key);
        }
        Ok(lock.arg(LOCK_MILLIS).invoke_async(&mut redis).await?)
    }

    async fn read_then_write(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        let (transaction, taken) = self.database.begin(READ_TAKEN, &[&seats, &user]).await?;
        if !taken.is_empty() {
            transaction.roll_back();
            return Err(Refusal::Taken(super::sales::numbers(&taken)));
        }
        transaction.commit_with(WRITE, &[&seats, &user]).await
    }
}

impl Seats for RedisLock {
    fn database(&self) -> &Database {
        &self.database
    }

    async fn select(&self, user: i64, seats: &[i32]) -> Result<(), Refusal> {
        self.locked(seats, self.read_then_write(user, seats)).await
    }

    /// Under the lock as well: a click that has read that the soft lock ran out would write over the hold.
    async fn hold(&self, user: i64, seats: &[i32]) -> Result<Reservation, Refusal> {
        self.locked(seats, self.database.hold(user, seats)).await
    }
}
