//! Gates behind their shards: places, passes, and what survives.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actors::Handle;
use actors::gates::ports::History;
use actors::gates::{Following, GateAsk, GateEvent, GateSaid};
use actors::handle::{Answer, Ask};
use actors::ports::Ledger as _;
use engine::gate::{Left, Mode, Pass, Policy, PolicyFault, Standing, State};
use engine::{
    Authority, Caller, Command, ConcertId, Granted, Outcome, Refusal, RequestKey, ReservationId, ShardId,
    Span, Turn, Unavailable, UserId,
};
use tokio::time::Instant;

use super::world::{Node, ONE, World, list};

const CONCERT: ConcertId = ConcertId(1);
const SHARD: ShardId = ShardId(0);

fn open(per_second: u32, max_active: Option<u32>) -> Policy {
    let per_second = Some(per_second);
    Policy { state: State::Open, mode: Mode::Fifo, per_second, max_active, opens_at: None }
}

async fn say(handle: &Handle, ask: GateAsk) -> Result<GateSaid, Unavailable> {
    handle.gates().ask(SHARD, CONCERT, ask, Instant::now() + Duration::from_secs(5)).await
}

async fn set(handle: &Handle, policy: Policy) -> GateSaid {
    say(handle, GateAsk::Set { policy, by: UserId(7) }).await.unwrap()
}

async fn standing(handle: &Handle, ask: GateAsk) -> (Standing, bool) {
    match say(handle, ask).await.unwrap() {
        GateSaid::Standing { standing, durable } => (standing, durable),
        other => panic!("{other:?}"),
    }
}

async fn ahead(handle: &Handle, user: u64) -> Option<u32> {
    match standing(handle, GateAsk::Status(UserId(user))).await.0 {
        Standing::Waiting { ahead, .. } => ahead,
        other => panic!("{user} {other:?}"),
    }
}

/// Until the user is let in.
async fn pass(handle: &Handle, user: u64) -> Pass {
    for _ in 0..600 {
        if let Standing::Active(pass) = standing(handle, GateAsk::Status(UserId(user))).await.0 {
            return pass;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{user} was not let in");
}

async fn select(handle: &Handle, user: u64, pass: Option<Pass>, seat: u32) -> Answer {
    let caller = Caller { user: UserId(user), authority: Authority::Own };
    let command = Command::Select { option: ONE, seats: list(&[seat]) };
    let ask = Ask { caller, key: None, pass: pass.map(|pass| pass.id), command };
    handle.ask(SHARD, ask, Instant::now() + Duration::from_secs(10)).await
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_nobody_set_is_off() {
    let (_world, node) = World::selling(4).await;
    let handle = &node.handle;
    assert_eq!(standing(handle, GateAsk::Join(UserId(1))).await, (Standing::Free, true));
    let left = say(handle, GateAsk::Leave(UserId(1))).await.unwrap();
    assert_eq!(left, GateSaid::Left { left: Left::Nothing, durable: true });
    assert!(matches!(select(handle, 1, None, 0).await.outcome, Outcome::Granted(_)));
}

#[tokio::test(start_paused = true)]
async fn who_is_let_in_may_click_and_nobody_else() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    assert!(matches!(set(handle, open(1, None)).await, GateSaid::Set { changed: true, .. }));
    assert!(matches!(set(handle, open(1, None)).await, GateSaid::Set { changed: false, .. }));
    assert_eq!(set(handle, open(0, None)).await, GateSaid::Refused(PolicyFault::RateOutOfBounds));
    assert_eq!(select(handle, 1, None, 0).await.outcome, refused(Refusal::PassRequired));
    for user in 1..=3 {
        assert!(standing(handle, GateAsk::Join(UserId(user))).await.1, "durable");
    }
    let first = pass(handle, 1).await;
    assert!(matches!(select(handle, 1, Some(first), 0).await.outcome, Outcome::Granted(_)));
    assert_eq!(select(handle, 2, Some(first), 1).await.outcome, refused(Refusal::PassRequired));
    let left = say(handle, GateAsk::Leave(UserId(1))).await.unwrap();
    assert_eq!(left, GateSaid::Left { left: Left::Sale, durable: true });
    assert_eq!(select(handle, 1, Some(first), 0).await.outcome, refused(Refusal::PassRequired));
    // Off again: no pass is needed.
    let off = Policy { state: State::Off, ..open(1, None) };
    assert!(matches!(set(handle, off).await, GateSaid::Set { changed: true, .. }));
    assert!(matches!(select(handle, 2, None, 1).await.outcome, Outcome::Granted(_)));
    tokio::time::sleep(Duration::from_secs(11)).await;
    let rows = world.gates.lock().unwrap();
    let admitted = rows.history.iter().filter_map(|(_, what)| match what {
        History::Admitted(admitted) => Some(admitted.count),
        History::Set { .. } => None,
    });
    assert_eq!(admitted.sum::<u64>(), 1);
    let set = rows.history.iter().filter(|(_, what)| matches!(what, History::Set { by: UserId(7), .. }));
    assert_eq!(set.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pass_lives_while_it_is_used_and_makes_room_when_its_user_has_bought() {
    let (_world, node) = World::selling(8).await;
    let handle = &node.handle;
    set(handle, open(10, Some(1))).await;
    for user in 1..=3 {
        standing(handle, GateAsk::Join(UserId(user))).await;
    }
    let first = pass(handle, 1).await;
    // Twice its TTL, with a click now and then.
    for click in 0..10u32 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        standing(handle, GateAsk::Status(UserId(2))).await;
        standing(handle, GateAsk::Status(UserId(3))).await;
        let outcome = select(handle, 1, Some(first), click % 8).await.outcome;
        assert!(matches!(outcome, Outcome::Granted(_)), "{click} {outcome:?}");
    }
    assert_eq!(ahead(handle, 2).await, Some(0));
    buy(handle, 1, first).await;
    let second = pass(handle, 2).await;
    assert_eq!(select(handle, 1, Some(first), 3).await.outcome, refused(Refusal::PassRequired));
    // Unused it runs out.
    tokio::time::sleep(Duration::from_secs(150)).await;
    standing(handle, GateAsk::Status(UserId(3))).await;
    tokio::time::sleep(Duration::from_secs(160)).await;
    assert_eq!(select(handle, 2, Some(second), 4).await.outcome, refused(Refusal::PassRequired));
}

async fn buy(handle: &Handle, user: u64, pass: Pass) -> ReservationId {
    let caller = Caller { user: UserId(user), authority: Authority::Any };
    let mut key = 100;
    let mut send = async |command| {
        key += 1;
        let ask = Ask { caller, key: Some(RequestKey(key)), pass: Some(pass.id), command };
        handle.ask(SHARD, ask, Instant::now() + Duration::from_secs(10)).await.outcome
    };
    let reservation = ReservationId::stamp(7 << 64, ONE);
    let held = send(Command::Hold { option: ONE, seats: list(&[1]), reservation }).await;
    let Outcome::Granted(Granted::Reserved { reservation, .. }) = held else { panic!("{held:?}") };
    let confirmed = send(Command::Confirm { reservation: reservation.id }).await;
    assert!(matches!(confirmed, Outcome::Granted(_)), "{confirmed:?}");
    reservation.id
}

/// Payment services tell the same payment again and again, and its buyer may be back inside by then.
#[tokio::test(start_paused = true)]
async fn a_confirmation_told_again_takes_nobody_s_next_pass() {
    let (_world, node) = World::selling(8).await;
    let handle = &node.handle;
    set(handle, open(10, Some(1))).await;
    standing(handle, GateAsk::Join(UserId(1))).await;
    let first = pass(handle, 1).await;
    select(handle, 1, Some(first), 1).await;
    let reservation = buy(handle, 1, first).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    standing(handle, GateAsk::Join(UserId(1))).await;
    let second = pass(handle, 1).await;
    for key in [102, 777] {
        let caller = Caller { user: UserId(1), authority: Authority::Any };
        let command = Command::Confirm { reservation };
        let ask = Ask { caller, key: Some(RequestKey(key)), pass: None, command };
        let again = handle.ask(SHARD, ask, Instant::now() + Duration::from_secs(10)).await;
        assert!(matches!(again.outcome, Outcome::Granted(_)), "{again:?}");
        let outcome = select(handle, 1, Some(second), 5).await.outcome;
        assert!(matches!(outcome, Outcome::Granted(_)), "{key}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn places_survive_the_process_and_nobody_is_let_in_twice() {
    let (world, node) = World::selling(4).await;
    set(&node.handle, open(1, Some(2))).await;
    for user in 1..=20 {
        standing(&node.handle, GateAsk::Join(UserId(user))).await;
    }
    let first = pass(&node.handle, 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before: Vec<_> = futures(&node.handle, 3..=20).await;
    // A long line takes longer to read than one would wait for a mirror that is not there.
    *world.gate_mirror.reads_in.lock().unwrap() = Duration::from_secs(20);
    node.system.kill();
    // Its lease runs out.
    let node = world.node().await;
    serves(&node).await;
    assert_eq!(futures(&node.handle, 3..=20).await, before);
    let Standing::Active(again) = standing(&node.handle, GateAsk::Status(UserId(1))).await.0 else {
        panic!()
    };
    assert_eq!(again.id, first.id);
    assert!(matches!(select(&node.handle, 1, Some(first), 2).await.outcome, Outcome::Granted(_)));
    assert_eq!(select(&node.handle, 5, None, 1).await.outcome, refused(Refusal::PassRequired));
    say(&node.handle, GateAsk::Leave(UserId(2))).await.unwrap();
    pass(&node.handle, 3).await;
    assert_eq!(world.gate_mirror.kept(CONCERT).passes.len(), 2);
}

async fn futures(handle: &Handle, users: std::ops::RangeInclusive<u64>) -> Vec<Option<u32>> {
    let mut places = Vec::new();
    for user in users {
        places.push(ahead(handle, user).await);
    }
    places
}

/// Until the gate answers.
async fn serves(node: &Node) {
    for _ in 0..1_000 {
        if say(&node.handle, GateAsk::Info).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the gate does not come up");
}

#[tokio::test(start_paused = true)]
async fn without_a_mirror_the_gate_goes_on_and_says_so() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, open(5, None)).await;
    assert!(standing(handle, GateAsk::Join(UserId(1))).await.1);
    world.gate_mirror.is_away.store(true, Ordering::Relaxed);
    assert!(!standing(handle, GateAsk::Join(UserId(2))).await.1);
    pass(handle, 2).await;
    world.gate_mirror.is_away.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(standing(handle, GateAsk::Join(UserId(3))).await.1);
    let kept = world.gate_mirror.kept(CONCERT);
    assert_eq!(kept.waiting.len() + kept.passes.len(), 3);
    // One that forgot everything is written anew.
    world.gate_mirror.wipe();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let kept = world.gate_mirror.kept(CONCERT);
    assert_eq!(kept.waiting.len() + kept.passes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_panics_is_one_that_is_away() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, Policy { state: State::Paused, ..open(1, None) }).await;
    world.gate_mirror.is_broken.store(true, Ordering::Relaxed);
    assert!(!standing(handle, GateAsk::Join(UserId(1))).await.1);
    world.gate_mirror.is_broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(standing(handle, GateAsk::Join(UserId(2))).await.1);
    assert_eq!(world.gate_mirror.kept(CONCERT).waiting.len(), 2);
}

/// Who has less patience than it takes to give the mirror up hears at its deadline that nobody knows, and may be in line.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_silent_mirror_beyond_their_deadline() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, Policy { state: State::Paused, ..open(1, None) }).await;
    *world.gate_mirror.answers_in.lock().unwrap() = Duration::from_secs(3_600);
    let begun = Instant::now();
    let join = async |user, patience| {
        let deadline = begun + patience;
        let said = handle.gates().ask(SHARD, CONCERT, GateAsk::Join(UserId(user)), deadline).await;
        (said, begun.elapsed())
    };
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let ((hasty, after), (patient, later)) = tokio::join!(join(1, second), join(2, minute));
    assert_eq!(hasty, Err(Unavailable::Overloaded));
    assert!((second..second * 5 / 4).contains(&after), "{after:?}");
    assert!(matches!(patient, Ok(GateSaid::Standing { durable: false, .. })), "{patient:?}");
    assert!((second..second * 5).contains(&later), "{later:?}");
    assert_eq!((ahead(handle, 1).await, ahead(handle, 2).await), (Some(0), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_fenced_or_dies_comes_back_with_its_shard() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, open(1, Some(1))).await;
    standing(handle, GateAsk::Join(UserId(1))).await;
    pass(handle, 1).await;
    standing(handle, GateAsk::Join(UserId(2))).await;
    let epoch = node.epoch(0).unwrap();
    handle.gates().crash(CONCERT);
    // While it is being restored it is not one that is off.
    for _ in 0..500 {
        match say(handle, GateAsk::Status(UserId(2))).await {
            Ok(GateSaid::Standing { standing: Standing::Waiting { .. }, .. }) | Err(_) => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    serves(&node).await;
    assert!(node.epoch(0).unwrap() > epoch);
    assert_eq!(ahead(handle, 2).await, Some(0));
    drop(world);
}

/// Its keeper waits to hear who has the shard, and is not looking.
#[tokio::test(start_paused = true)]
async fn a_dead_gate_keeps_nobody_beyond_their_deadline() {
    let (world, node) = World::selling(4).await;
    let gates = node.handle.gates();
    let (other, begun) = (ConcertId(9), Instant::now());
    set(&node.handle, open(1, None)).await;
    let ask = GateAsk::Set { policy: open(1, None), by: UserId(7) };
    gates.ask(SHARD, other, ask, begun + Duration::from_secs(5)).await.unwrap();
    world.gate_mirror.fence(other);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (asked, second) = (Instant::now(), Duration::from_secs(1));
    gates.crash(CONCERT);
    let said = gates.ask(SHARD, CONCERT, GateAsk::Join(UserId(1)), asked + second).await;
    assert_eq!(said, Err(Unavailable::Overloaded));
    assert!(asked.elapsed() <= second, "{:?}", asked.elapsed());
    assert_eq!(node.epoch(0).map(|epoch| epoch > 1), Some(false), "its keeper still waits");
}

/// Nothing is set, and nobody says that nothing will be.
#[tokio::test(start_paused = true)]
async fn what_the_ledger_does_not_answer_in_time_may_be_set_all_the_same() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, open(1, None)).await;
    world.gates_away.store(true, Ordering::Relaxed);
    let closed = GateAsk::Set { policy: Policy { state: State::Closed, ..open(1, None) }, by: UserId(7) };
    assert_eq!(say(handle, closed).await, Err(Unavailable::Ledger));
    // Another one in between has to come again.
    let paused = GateAsk::Set { policy: Policy { state: State::Paused, ..open(1, None) }, by: UserId(7) };
    assert_eq!(say(handle, paused).await, Err(Unavailable::Overloaded));
    world.gates_away.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(standing(handle, GateAsk::Join(UserId(1))).await.0, Standing::Rejected);
}

/// The next event of the user's own.
async fn event(following: &mut Following) -> GateEvent {
    let next = async {
        loop {
            match following.next().await {
                GateEvent::Moved | GateEvent::Anew => {}
                other => return other,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_hears_where_they_are_and_stays_in_line_by_it() {
    let (_world, node) = World::selling(4).await;
    let handle = &node.handle;
    set(handle, Policy { state: State::Paused, ..open(1, None) }).await;
    for user in 1..=100 {
        standing(handle, GateAsk::Join(UserId(user))).await;
    }
    let mut following = handle.gates().follow(SHARD, CONCERT, UserId(100));
    assert_eq!(following.next().await, GateEvent::Anew);
    let Standing::Waiting { turn, ahead, .. } = standing(handle, GateAsk::Status(UserId(100))).await.0 else {
        panic!()
    };
    following.waits_in(Some(turn), ahead);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(following.place().unwrap().ahead, 99);
    // Everybody else has gone silent: passed over, and the listener is let in.
    tokio::time::sleep(Duration::from_secs(100)).await;
    say(handle, GateAsk::Leave(UserId(50))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(following.place().unwrap().ahead, 98);
    set(handle, open(1, None)).await;
    let GateEvent::Admitted { pass, durable: true } = event(&mut following).await else { panic!() };
    assert!(matches!(select(handle, 100, Some(pass), 0).await.outcome, Outcome::Granted(_)));
    say(handle, GateAsk::Leave(UserId(100))).await.unwrap();
    assert!(matches!(event(&mut following).await, GateEvent::Ended { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_asked_through_every_node() {
    let (world, node) = World::selling(4).await;
    set(&node.handle, open(1, None)).await;
    standing(&node.handle, GateAsk::Join(UserId(1))).await;
    let other = world.node().await;
    // Wherever the shard is now: both say the same.
    for user in 2..=6 {
        standing(&other.handle, GateAsk::Join(UserId(user))).await;
        let (here, there) = (ahead(&node.handle, user).await, ahead(&other.handle, user).await);
        assert!(here.is_some() && there <= here, "{user} {here:?} {there:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_presale_is_drawn_at_its_opening() {
    let (world, node) = World::selling(4).await;
    let handle = &node.handle;
    let opens_at = Some(world.ledger(99).now().await.unwrap() + Span::from_secs(60));
    let presale = Policy { mode: Mode::PresaleDraw, opens_at, ..open(100, None) };
    set(handle, presale).await;
    for user in 1..=50 {
        let joined = standing(handle, GateAsk::Join(UserId(user))).await.0;
        assert!(matches!(joined, Standing::Waiting { ahead: None, .. }), "{joined:?}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let committed = world.gates.lock().unwrap().draws[&CONCERT].clone();
    assert_eq!(committed.frozen, None);
    tokio::time::sleep(Duration::from_secs(62)).await;
    let row = world.gates.lock().unwrap().draws[&CONCERT].clone();
    assert_eq!(row.seed, committed.seed);
    assert_eq!(row.frozen.as_ref().unwrap().entrants.len(), 50);
    // The first of the order had the first turn, whether they are inside by now or not.
    let kept = world.gate_mirror.kept(CONCERT);
    let waiting = kept.waiting.iter().map(|(turn, user)| (*user, *turn));
    let turns: BTreeMap<UserId, Turn> =
        waiting.chain(kept.passes.iter().map(|pass| (pass.user, pass.turn))).collect();
    for (place, index) in (0..).zip(actors::gates::draws::indexes(&row).unwrap()) {
        assert_eq!(turns[&UserId(u64::from(index) + 1)], Turn(place));
    }
    pass(handle, 7).await;
}
