//! How many may join waiting rooms: in all, from one address, as one user. Per node, and by GCRA, which needs one number
//! for each of them (`governor`).

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use engine::UserId;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::error::Problem;
use super::proxies::ClientAddress;

/// How often those are forgotten who could come again at once anyway.
const SHRINK_EVERY: Duration = Duration::from_secs(10);

/// So many in a second for long, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// What the door of waiting rooms puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    pub node: Rate,
    pub address: Rate,
    pub user: Rate,
}

type One<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
/// Whoever gets here has a token that was signed for us, so the hash need not be a slow one; it is seeded all the same.
type Store<K> = DashMapStateStore<K, foldhash::quality::RandomState>;
type Each<K, C> = RateLimiter<K, Store<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What is left of the [`Budgets`]. Cheap to clone.
#[derive(Clone)]
pub struct Budget<C: Clock = MonotonicClock>(Arc<Inner<C>>);

struct Inner<C: Clock> {
    node: One<C>,
    addresses: Each<IpAddr, C>,
    users: Each<UserId, C>,
    clock: C,
}

impl Budget {
    #[must_use]
    pub fn new(budgets: &Budgets) -> Self {
        Self::with_clock(budgets, MonotonicClock)
    }

    /// Forgets now and then whoever has not come for a while, until `stop`.
    pub async fn shrink_until(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SHRINK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.shrink(),
            }
        }
    }
}

impl<C: Clock + Clone> Budget<C> {
    fn with_clock(budgets: &Budgets, clock: C) -> Self {
        let Budgets { node, address, user } = budgets;
        Self(Arc::new(Inner {
            node: RateLimiter::direct_with_clock(node.quota(), clock.clone()),
            addresses: RateLimiter::new(address.quota(), Store::default(), clock.clone()),
            users: RateLimiter::new(user.quota(), Store::default(), clock.clone()),
            clock,
        }))
    }

    /// Takes one join from all three. The narrow ones come first: one user takes nothing from the others by being refused.
    /// Whoever is refused by a wider one has paid the narrower ones for nothing: `governor` gives nothing back, and does
    /// not tell beforehand whether it would refuse.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with the time after which it is worth to come again.
    pub(crate) fn admit(&self, client: ClientAddress, user: UserId) -> Result<(), Problem> {
        self.0.users.check_key(&user).map_err(|not| self.limited(&not))?;
        // Whoever asks from this machine is a proxy that nobody named, with everybody behind it, or a measurement.
        if let ClientAddress::Elsewhere(address) = client {
            self.0.addresses.check_key(&network(address)).map_err(|not| self.limited(&not))?;
        }
        self.0.node.check().map_err(|not| self.limited(&not))
    }

    fn limited(&self, not: &NotUntil<C::Instant>) -> Problem {
        Problem::RateLimited { retry_after: not.wait_time_from(self.0.clock.now()) }
    }

    fn shrink(&self) {
        self.0.addresses.retain_recent();
        self.0.addresses.shrink_to_fit();
        self.0.users.retain_recent();
        self.0.users.shrink_to_fit();
    }
}

/// Who has one IPv6 address has the other 2^64 of its network as well.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    /// 20 at once for all, 5 for each address, 2 for each user; one a second for each.
    fn small() -> (Budget<FakeRelativeClock>, FakeRelativeClock) {
        let budgets = Budgets { node: rate(1, 20), address: rate(1, 5), user: rate(1, 2) };
        let clock = FakeRelativeClock::default();
        (Budget::with_clock(&budgets, clock.clone()), clock)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn from(text: &str) -> ClientAddress {
        ClientAddress::Elsewhere(address(text))
    }

    #[track_caller]
    fn is_limited(admitted: Result<(), Problem>, seconds: u64) {
        assert_eq!(admitted, Err(Problem::RateLimited { retry_after: Duration::from_secs(seconds) }));
    }

    #[test]
    fn one_user_leaves_the_others_their_share() {
        let (budget, clock) = small();
        let here = from("192.0.2.1");
        for _ in 0..2 {
            budget.admit(here, UserId(1)).unwrap();
        }
        for _ in 0..100 {
            is_limited(budget.admit(here, UserId(1)), 1);
        }
        // A hundred refused joins took nothing from the address.
        for user in 2..5 {
            budget.admit(here, UserId(user)).unwrap();
        }
        is_limited(budget.admit(here, UserId(5)), 1);
        budget.admit(from("192.0.2.2"), UserId(6)).unwrap();
        clock.advance(Duration::from_secs(1));
        budget.admit(here, UserId(1)).unwrap();
        is_limited(budget.admit(here, UserId(2)), 1);
    }

    #[test]
    fn all_together_have_a_bound() {
        let (budget, _) = small();
        for user in 0..20_u8 {
            budget.admit(from(&format!("192.0.2.{user}")), UserId(u64::from(user))).unwrap();
        }
        is_limited(budget.admit(from("198.51.100.1"), UserId(99)), 1);
    }

    #[test]
    fn this_machine_has_no_budget_of_its_own_but_who_says_to_be_it_has() {
        let (budget, _) = small();
        for user in 0..5 {
            budget.admit(ClientAddress::Here, UserId(user)).unwrap();
        }
        budget.admit(ClientAddress::Here, UserId(5)).unwrap();
        for user in 6..11 {
            budget.admit(from("127.0.0.1"), UserId(user)).unwrap();
        }
        is_limited(budget.admit(from("127.0.0.1"), UserId(11)), 1);
    }

    #[test]
    fn a_network_of_version_6_is_one_address() {
        let (budget, _) = small();
        for user in 0..5 {
            budget.admit(from(&format!("2001:db8::{user}")), UserId(user)).unwrap();
        }
        is_limited(budget.admit(from("2001:db8::ffff:1"), UserId(5)), 1);
        budget.admit(from("2001:db8:0:1::1"), UserId(6)).unwrap();
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn who_has_not_come_for_a_while_is_forgotten() {
        let (budget, clock) = small();
        for user in 0..20_u8 {
            budget.admit(from(&format!("192.0.2.{user}")), UserId(u64::from(user))).unwrap();
        }
        budget.shrink();
        assert_eq!((budget.0.addresses.len(), budget.0.users.len()), (20, 20));
        clock.advance(Duration::from_secs(30));
        budget.shrink();
        assert_eq!((budget.0.addresses.len(), budget.0.users.len()), (0, 0));
    }
}
