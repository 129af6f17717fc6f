use std::collections::BTreeMap;

use engine::SeatNo;
use proptest::prelude::*;

use super::*;

const OPTION: OptionId = OptionId(7);
const TICK: Duration = Duration::from_millis(50);

fn change(seat: u32, state: SeatState, feed_seq: u64) -> SeatChange {
    SeatChange { option: OPTION, seat: SeatNo(seat), state, feed_seq }
}

fn hub() -> Arc<Hub> {
    let hub = Arc::new(Hub::new(TICK, Metrics::default()));
    tokio::spawn(hub.clone().run());
    hub
}

fn at(text: &str) -> Position {
    text.parse().unwrap()
}

fn free(seats: usize) -> impl Iterator<Item = SeatState> {
    (0..seats).map(|_| SeatState::Available)
}

/// A frame that comes now, or nothing.
async fn ready(watch: &mut Watch) -> Option<String> {
    let frame = tokio::time::timeout(Duration::ZERO, watch.next()).await.ok()?;
    Some(String::from_utf8(frame.unwrap().text().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_at_most_a_tick_old_and_cut_once_a_tick() {
    let hub = hub();
    assert_eq!(hub.snapshot(OPTION), None);
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let first = hub.snapshot(OPTION).unwrap();
    assert_eq!((first.counts, first.map.as_slice()), ([5, 0, 0, 0], [0, 0].as_slice()));
    inlet.apply(Instant::now(), &change(1, SeatState::Selecting, 1));
    inlet.apply(Instant::now(), &change(4, SeatState::Confirmed, 2));
    assert!(Arc::ptr_eq(&first, &hub.snapshot(OPTION).unwrap()));
    tokio::time::advance(TICK).await;
    let second = hub.snapshot(OPTION).unwrap();
    assert_eq!((second.feed_seq, second.counts), (2, [3, 1, 0, 1]));
    assert_eq!(second.map, [0b0100, 0b11]);
    assert_eq!((second.state(1), second.state(4)), (SeatState::Selecting, SeatState::Confirmed));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(Arc::ptr_eq(&second, &hub.snapshot(OPTION).unwrap()), "nothing changed, nothing is cut");
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_replaces_and_an_old_one_cannot_write() {
    let hub = hub();
    let old = hub.open(OPTION, Epoch(1), 9, [SeatState::Hold].into_iter());
    hub.open(OPTION, Epoch(2), 0, [SeatState::Available].into_iter());
    old.apply(Instant::now(), &change(0, SeatState::Confirmed, 10));
    tokio::time::advance(TICK).await;
    assert_eq!(hub.snapshot(OPTION).unwrap().position(), at("2.0"));
}

#[tokio::test(start_paused = true)]
async fn viewers_get_a_snapshot_and_then_one_frame_a_tick() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let mut watch = hub.watch(OPTION, None).unwrap();
    let snapshot = ready(&mut watch).await.unwrap();
    assert!(snapshot.starts_with("{\"ev\":\"snapshot\",\"option\":7,\"at\":\"1.0\""), "{snapshot}");
    assert_eq!(ready(&mut watch).await, None, "nothing has changed");
    inlet.apply(Instant::now(), &change(1, SeatState::Selecting, 1));
    assert!(watch.next().await.unwrap().text().ends_with(b"\"to\":\"1.1\",\"set\":[[1,1]]}"), "at once");
    let before = Instant::now();
    inlet.apply(Instant::now(), &change(1, SeatState::Available, 2));
    inlet.apply(Instant::now(), &change(2, SeatState::Hold, 3));
    inlet.apply(Instant::now(), &change(3, SeatState::Selecting, 4));
    inlet.apply(Instant::now(), &change(3, SeatState::Available, 5));
    let frame = watch.next().await.unwrap();
    assert!(frame.text().ends_with(b"\"from\":\"1.1\",\"to\":\"1.5\",\"set\":[[1,0],[2,2]]}"), "{frame:?}");
    let waited = before.elapsed();
    assert!(waited > Duration::ZERO && waited <= TICK + Duration::from_millis(2), "{waited:?}");
    let mut other = hub.watch(OPTION, Some(at("1.1"))).unwrap();
    assert!(Arc::ptr_eq(&frame, &other.next().await.unwrap()), "encoded once for all");
    assert_eq!(hub.pulse.metrics.viewers().get(), 2);
    assert_eq!(hub.pulse.metrics.viewer_resets().get(), 0);
    drop((watch, other));
    assert_eq!(hub.pulse.metrics.viewers().get(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_came_while_nobody_watched_is_shown_to_who_comes() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    inlet.apply(Instant::now(), &change(1, SeatState::Selecting, 1));
    // The last cut is fresh: the change waits for the tick, though it came before the viewer.
    let mut watch = hub.watch(OPTION, Some(at("1.0"))).unwrap();
    assert!(watch.next().await.unwrap().text().ends_with(b"\"to\":\"1.1\",\"set\":[[1,1]]}"));
    drop(watch);
    inlet.apply(Instant::now(), &change(2, SeatState::Selecting, 2));
    tokio::time::advance(TICK).await;
    let mut watch = hub.watch(OPTION, Some(at("1.0"))).unwrap();
    let frame = ready(&mut watch).await.unwrap();
    assert!(frame.ends_with("\"from\":\"1.0\",\"to\":\"1.2\",\"set\":[[1,1],[2,1]]}"), "{frame}");
}

#[tokio::test(start_paused = true)]
async fn who_was_slow_is_brought_up_to_date_in_one_frame() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let mut slow = hub.watch(OPTION, Some(at("1.0"))).unwrap();
    let mut quick = hub.watch(OPTION, Some(at("1.0"))).unwrap();
    for seq in 1..=4_u32 {
        inlet.apply(Instant::now(), &change(seq, SeatState::Hold, seq.into()));
        assert_eq!(quick.next().await.unwrap().to(), Position { epoch: Epoch(1), seq: seq.into() });
    }
    let frame = slow.next().await.unwrap();
    assert!(frame.text().ends_with(b"\"from\":\"1.0\",\"to\":\"1.4\",\"set\":[[1,2],[2,2],[3,2],[4,2]]}"));
    assert_eq!(ready(&mut slow).await, None);
    slow.reset();
    assert_eq!(slow.next().await.unwrap().event(), "snapshot");
    assert_eq!(hub.pulse.metrics.viewer_resets().get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_epoch_continues_for_those_who_stayed_and_those_who_come_back() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(3), 0, free(5));
    let mut stays = hub.watch(OPTION, Some(at("3.0"))).unwrap();
    inlet.apply(Instant::now(), &change(1, SeatState::Hold, 1));
    stays.next().await.unwrap();
    inlet.apply(Instant::now(), &change(2, SeatState::Selecting, 2));
    inlet.apply(Instant::now(), &change(3, SeatState::Hold, 3));
    stays.next().await.unwrap();
    // The soft lock is lost, the holds are not.
    let states = [0, 2, 0, 2, 0].map(SeatState::from_bits);
    hub.open(OPTION, Epoch(4), 0, states.into_iter());
    let rows = [("3.0", "[[1,2],[2,0],[3,2]]"), ("3.1", "[[2,0],[3,2]]"), ("3.2", "[[2,0],[3,2]]")];
    for (since, set) in rows {
        let mut back = hub.watch(OPTION, Some(at(since))).unwrap();
        let frame = ready(&mut back).await.unwrap();
        let wanted =
            format!("\"continues\",\"option\":7,\"from\":\"{since}\",\"to\":\"4.0\",\"set\":{set}}}");
        assert!(frame.ends_with(&wanted), "{frame}");
    }
    let frame = ready(&mut stays).await.unwrap();
    assert!(frame.ends_with("\"from\":\"3.3\",\"to\":\"4.0\",\"set\":[[2,0]]}"), "{frame}");
    assert_eq!(hub.pulse.metrics.viewer_resets().get(), 0);
    for unknown in ["2.5", "3.4"] {
        let mut back = hub.watch(OPTION, Some(at(unknown))).unwrap();
        assert!(ready(&mut back).await.unwrap().starts_with("{\"ev\":\"snapshot\""), "{unknown}");
    }
    assert_eq!(hub.pulse.metrics.viewer_resets().get(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_ahead_waits_and_not_for_ever() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let mut ahead = hub.watch(OPTION, Some(at("1.1"))).unwrap();
    assert_eq!(ready(&mut ahead).await, None);
    inlet.apply(Instant::now(), &change(1, SeatState::Hold, 1));
    tokio::time::advance(TICK).await;
    assert_eq!(ready(&mut ahead).await, None, "it has just that");
    inlet.apply(Instant::now(), &change(2, SeatState::Hold, 2));
    assert!(ahead.next().await.unwrap().text().ends_with(b"\"to\":\"1.2\",\"set\":[[2,2]]}"));
    let before = Instant::now();
    for claim in ["1.1000", "999.1"] {
        let mut liar = hub.watch(OPTION, Some(at(claim))).unwrap();
        assert_eq!(liar.next().await.unwrap().event(), "snapshot");
        let mut liar = hub.watch(OPTION, Some(at(claim))).unwrap();
        assert_eq!(liar.up_to_date().await.unwrap().event(), "snapshot");
    }
    assert!(before.elapsed() >= 4 * Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_node_is_the_end_of_its_watches() {
    let hub = hub();
    let inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let mut watch = hub.watch(OPTION, Some(at("1.0"))).unwrap();
    hub.end();
    inlet.apply(Instant::now(), &change(1, SeatState::Hold, 1));
    tokio::time::advance(TICK).await;
    assert!(watch.next().await.is_none() && watch.up_to_date().await.is_none());
    assert!(hub.watch(OPTION, None).is_none());
    assert_eq!(hub.snapshot(OPTION).unwrap().feed_seq, 1, "whoever asks may still look");
}

#[tokio::test(start_paused = true)]
async fn being_up_to_date_is_an_answer_too() {
    let hub = hub();
    let _inlet = hub.open(OPTION, Epoch(1), 0, free(5));
    let frame = hub.watch(OPTION, Some(at("1.0"))).unwrap().up_to_date().await.unwrap();
    let wanted = "{\"ev\":\"changes\",\"option\":7,\"from\":\"1.0\",\"to\":\"1.0\",\"set\":[]}";
    assert_eq!(frame.text(), wanted);
}

#[test]
fn an_idle_watch_is_small() {
    let bytes = size_of::<Watch>();
    assert!(bytes <= 128, "{bytes}");
}

#[test]
fn large_changes_become_a_snapshot_only_when_that_is_smaller() {
    let rows = [(1_000, 1_000, "changes"), (2_000, 1_001, "snapshot"), (32_000, 2_000, "changes")];
    for (seats, changed, event) in rows {
        let opened = Snapshot::new(OPTION, at("1.0"), free(seats as usize));
        let mut history = History::new(opened.clone());
        let mut snapshot = opened;
        for seat in 0..changed {
            snapshot.set(seat as usize, SeatState::Hold);
        }
        snapshot.feed_seq = u64::from(changed);
        history.advance(snapshot.clone(), 0..changed);
        snapshot.feed_seq += 1;
        history.advance(snapshot, std::iter::empty());
        let CatchUp::Frame(frame) = history.catch_up(Some(at("1.0"))) else { panic!("it missed something") };
        assert_eq!(frame.event(), event, "{changed} of {seats}");
    }
}

#[test]
fn when_the_versions_are_used_up_who_is_away_begins_anew() {
    let mut snapshot = Snapshot::new(OPTION, at("1.0"), free(5));
    let mut history = History::new(snapshot.clone());
    for seq in [1, u64::from(u32::MAX) + 7, u64::from(u32::MAX) + 8] {
        snapshot.set(1, SeatState::from_bits((seq % 2) as u8));
        snapshot.feed_seq = seq;
        let before = history.cut().position();
        history.advance(snapshot.clone(), std::iter::once(1));
        let CatchUp::Frame(frame) = history.catch_up(Some(before)) else { panic!("there is a frame") };
        assert_eq!((frame.event(), frame.to()), ("changes", snapshot.position()));
    }
    let CatchUp::Frame(frame) = history.catch_up(Some(at("1.1"))) else { panic!("there is a frame") };
    assert_eq!(frame.event(), "snapshot");
    let after = Position { epoch: Epoch(1), seq: u64::from(u32::MAX) + 7 };
    let CatchUp::Frame(frame) = history.catch_up(Some(after)) else { panic!("there is a frame") };
    assert_eq!(frame.event(), "changes");
}

/// What happens to an option and to those who watch it.
#[derive(Clone, Debug)]
enum Event {
    Change {
        seat: u32,
        state: u8,
    },
    Cut,
    Turn {
        lost: Vec<bool>,
    },
    /// Somebody comes with nothing, or with the map of a moment, seen here or elsewhere.
    Come {
        viewer: usize,
        moment: Option<prop::sample::Index>,
    },
    Poll {
        viewer: usize,
    },
}

const SEATS: u32 = 9;
const VIEWERS: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    let viewer = 0..VIEWERS;
    prop_oneof![
        8 => (0..SEATS, 0..4_u8).prop_map(|(seat, state)| Event::Change { seat, state }),
        4 => Just(Event::Cut),
        1 => prop::collection::vec(any::<bool>(), SEATS as usize).prop_map(|lost| Event::Turn { lost }),
        2 => (viewer.clone(), prop::option::weighted(0.8, any::<prop::sample::Index>()))
            .prop_map(|(viewer, moment)| Event::Come { viewer, moment }),
        4 => viewer.prop_map(|viewer| Event::Poll { viewer }),
    ]
}

type Map = Vec<u8>;

/// The option as it is, with everything it has ever been.
struct Truth {
    history: History,
    live: Snapshot,
    changed: std::collections::BTreeSet<u32>,
    ever: BTreeMap<Position, Map>,
    /// The last seq of each epoch that was shown here.
    shown: BTreeMap<Epoch, u64>,
}

#[derive(Clone, Default)]
struct Viewer {
    has: Option<(Position, Map)>,
}

fn map_of(snapshot: &Snapshot) -> Map {
    (0..SEATS as usize).map(|seat| snapshot.state(seat) as u8).collect()
}

impl Truth {
    fn new() -> Self {
        let live = Snapshot::new(OPTION, at("1.0"), free(SEATS as usize));
        let ever = [(live.position(), map_of(&live))].into();
        let shown = [(Epoch(1), 0)].into();
        Self { history: History::new(live.clone()), live, changed: Default::default(), ever, shown }
    }

    fn happen(&mut self, event: Event, viewers: &mut [Viewer]) {
        match event {
            Event::Change { seat, state } => {
                self.live.set(seat as usize, SeatState::from_bits(state));
                self.live.feed_seq += 1;
                self.changed.insert(seat);
            }
            Event::Cut => {
                let changed = std::mem::take(&mut self.changed);
                self.history.advance(self.live.clone(), changed.into_iter());
                self.shown.insert(self.live.epoch, self.live.feed_seq);
            }
            Event::Turn { lost } => {
                let epoch = Epoch(self.live.epoch.0 + 1);
                let states = (0..SEATS as usize)
                    .map(|seat| if lost[seat] { SeatState::Available } else { self.live.state(seat) });
                self.live = Snapshot::new(OPTION, Position { epoch, seq: 0 }, states);
                self.changed.clear();
                self.history.turn(self.live.clone());
                self.shown.insert(epoch, 0);
            }
            Event::Come { viewer, moment } => {
                let moment = moment.map(|index| index.index(self.ever.len()));
                let moment = moment.and_then(|place| self.ever.iter().nth(place));
                viewers[viewer].has = moment.map(|(position, map)| (*position, map.clone()));
            }
            Event::Poll { viewer } => self.poll(&mut viewers[viewer]),
        }
        self.ever.insert(self.live.position(), map_of(&self.live));
    }

    fn poll(&mut self, viewer: &mut Viewer) {
        let has = viewer.has.as_ref().map(|(position, _)| *position);
        let newest = self.history.cut().position();
        match self.history.catch_up(has) {
            CatchUp::Current => assert_eq!(has, Some(newest)),
            CatchUp::Ahead => assert!(has > Some(newest)),
            CatchUp::Frame(frame) => {
                if let Some(position) = has.filter(|_| frame.event() == "snapshot") {
                    assert!(position.seq > self.shown[&position.epoch], "{position} could be continued");
                }
                viewer.apply(&frame.compact());
                assert_eq!(viewer.has, Some((newest, self.ever[&newest].clone())));
            }
        }
    }
}

impl Viewer {
    /// As `docs/protocol.md` says, from the bytes.
    fn apply(&mut self, bytes: &[u8]) {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let place = |epoch, seq| Position { epoch: Epoch(number(epoch)), seq: number(seq) };
        let (from, to, list) = match bytes[..2] {
            [1, 2] => {
                let state = |seat: usize| bytes[22 + seat / 4] >> (2 * (seat % 4)) & 3;
                assert_eq!(bytes[18..22], SEATS.to_le_bytes());
                self.has = Some((place(2, 10), (0..SEATS as usize).map(state).collect()));
                return;
            }
            [1, 0x82] => (place(2, 10), place(2, 18), 26),
            [1, 0x83] => (place(2, 10), place(18, 26), 34),
            _ => panic!("unknown: {bytes:?}"),
        };
        let (has, map) = self.has.as_mut().expect("changes are for those who have something");
        assert_eq!(*has, from, "a gap");
        *has = to;
        for four in bytes[list + 4..].chunks(4) {
            let packed = u32::from_le_bytes(four.try_into().unwrap());
            map[(packed >> 2) as usize] = (packed & 3) as u8;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_applies_what_it_is_sent_has_the_hubs_map(
        events in prop::collection::vec(event(), 1..150)
    ) {
        let mut truth = Truth::new();
        let mut viewers = vec![Viewer::default(); VIEWERS];
        let turns = events.iter().filter(|event| matches!(event, Event::Turn { .. })).count();
        prop_assume!(turns < 15);
        for event in events {
            truth.happen(event, &mut viewers);
        }
        truth.happen(Event::Cut, &mut viewers);
        for viewer in 0..VIEWERS {
            truth.happen(Event::Poll { viewer }, &mut viewers);
        }
    }
}
