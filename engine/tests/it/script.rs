//! Rules as text: one line a step, what is asked on the left of `=>`, what comes out on the right.
//!
//! ```text
//! u1 select 0 1            => ok selected 0 1 until 30
//! u2 select 1              => no SEAT_TAKEN 1=SELECTING
//! u1 hold r1 0 1 key=a     => write HELD r1
//! ack                      => #3 ok HOLD r1 v1 until 300 amount 200
//! +300                     => write EXPIRED r1
//! ```
//! Users are u1, u2, … (`svc` may touch everybody's reservations); r1, r2, … are reservations of
//! option 7; times are seconds. `#n` marks a reply to line n of the script, when it is not this line.
//! The option has four runs of five seats, two sections, and prices 100 (seats 0..10) and 60.
//! `all` as the first word shows the mirror (`m+3`, `m-3`) and the viewers (`3:SELECTING`) too.

use std::fmt::Write as _;
use std::sync::Arc;

use engine::entry::{Answered, Fact, RestoredOption, RestoredPolicy, Told};
use engine::option::{OptionStatus, Policy};
use engine::plan::{Layout, Run};
use engine::{
    Authority, Caller, ChainHead, Command, ConcertId, Effect, Effects, Entry, Epoch, Granted, Input,
    MirrorOp, OptionId, Outcome, Refusal, ReplyTo, Request, RequestKey, Reservation, ReservationId, Restored,
    SeatList, SeatNo, Settings, Shard, ShardId, SoftLock, Span, Time, UserId,
};

pub const OPTION: OptionId = OptionId(7);
const CONCERT: ConcertId = ConcertId(70);

/// Runs a script and compares every line; on a difference it shows the script as it really went.
#[track_caller]
pub fn check(script: &str) {
    let mut world = World::new(Settings::default());
    let mut went = String::new();
    let mut same = true;
    for (number, line) in (1..).zip(script.trim().lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            let _ = writeln!(went, "{line}");
            continue;
        }
        let (asked, expected) = line.split_once("=>").unwrap_or((line, ""));
        let actual = world.line(number, asked.trim());
        same &= actual == expected.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(went, "{:<24} => {actual}", asked.trim());
    }
    assert!(same, "expected:\n{script}\nwent:\n{went}");
}

/// A shard with a ledger that takes everything when told `ack`, and a perfect mirror.
pub struct World {
    shard: Shard,
    settings: Settings,
    now: Time,
    all: bool,
    effects: Effects,
    /// Everything ever appended, acknowledged or not.
    entries: Vec<Entry>,
    acked: usize,
    mirror: Vec<SoftLock>,
    epoch: u64,
}

fn layout() -> Arc<Layout> {
    Arc::new(Layout {
        categories: (0..20).map(|seat| u8::from(seat >= 10)).collect(),
        runs: (0..4).map(|run| Run { first: SeatNo(run * 5), seats: 5 }).collect(),
        sections: vec![SeatNo(0), SeatNo(10)],
        prices: vec![100, 60],
    })
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let mut world = Self {
            shard: Shard::new(ShardId(0), Epoch(1), settings),
            settings,
            now: Time(0),
            all: false,
            effects: Effects::new(),
            entries: Vec::new(),
            acked: 0,
            mirror: Vec::new(),
            epoch: 1,
        };
        let command = Command::AddOption { option: OPTION, concert: CONCERT, layout: layout() };
        world.ask(0, Caller { user: UserId(0), authority: Authority::Any }, None, command);
        world.ack(1);
        world.effects.clear();
        world
    }

    fn line(&mut self, number: u64, asked: &str) -> String {
        let mut words: Vec<&str> = asked.split_whitespace().collect();
        if words.first() == Some(&"all") {
            self.all = true;
            words.remove(0);
        }
        match words[0] {
            "ack" => {
                let count = words.get(1).map_or(usize::MAX, |n| n.parse().unwrap());
                self.ack(count);
            }
            "refuse" => {
                let entry = self.entries[self.acked].no;
                self.step(Input::Refused { entry });
            }
            "restart" => return self.restart(),
            who if words.get(1) == Some(&"mine") => return self.mine(who),
            wait if wait.starts_with('+') => {
                self.now = self.now + Span::from_millis((wait.parse::<f64>().unwrap() * 1000.0) as i64);
                self.step(Input::Tick);
            }
            who => self.command(number, who, &words[1..]),
        }
        let effects = std::mem::take(&mut self.effects);
        effects.iter().filter_map(|effect| self.show(number, effect)).collect::<Vec<_>>().join("; ")
    }

    fn mine(&self, who: &str) -> String {
        let user = UserId(who[1..].parse().unwrap());
        let (seats, until) = self.shard.selection(user, OPTION);
        if seats.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{} until {}", list(&seats), seconds(until))
        }
    }

    fn command(&mut self, number: u64, who: &str, words: &[&str]) {
        let caller = match who {
            "svc" => Caller { user: UserId(99), authority: Authority::Any },
            user => Caller { user: UserId(user[1..].parse().unwrap()), authority: Authority::Own },
        };
        let mut key = None;
        let mut reservation = ReservationId(0);
        let mut named = std::collections::BTreeMap::new();
        let mut seats = SeatList::default();
        let mut option = OPTION;
        for word in &words[1..] {
            if let Some((name, value)) = word.split_once('=') {
                match name {
                    "key" => key = Some(RequestKey(value.bytes().fold(1, |k, b| k << 8 | u128::from(b)))),
                    "option" => option = OptionId(value.parse().unwrap()),
                    name => drop(named.insert(name, value.parse::<u32>().unwrap())),
                }
            } else if let Some(id) = word.strip_prefix('r') {
                reservation = ReservationId::stamp(id.parse::<u128>().unwrap() << 32, option);
            } else {
                seats.push(SeatNo(word.parse().unwrap()));
            }
        }
        let status = |open| if open { OptionStatus::OnSale } else { OptionStatus::Closed };
        let command = match words[0] {
            "select" => Command::Select { option, seats },
            "best" => Command::SelectBest {
                option,
                party: named["party"],
                section: named.get("section").map(|s| *s as u16),
                category: named.get("category").map(|c| *c as u8),
            },
            "release" => Command::Release { option, seats: (!seats.is_empty()).then_some(seats) },
            "hold" => Command::Hold { option, seats, reservation },
            "pay" => Command::StartPaying { reservation },
            "confirm" => Command::Confirm { reservation },
            "cancel" => Command::Cancel { reservation },
            "refund" => Command::Refund { reservation },
            "block" => Command::Block { option, seats, reservation },
            "unblock" => Command::Unblock { reservation },
            "open" => Command::SetOptionStatus { option, status: status(true) },
            "close" => Command::SetOptionStatus { option, status: status(false) },
            "policy" => {
                let policy = Policy {
                    reservations_per_user: named.get("max").copied().unwrap_or(4),
                    gate: named.get("gate").is_some_and(|gate| *gate == 1),
                };
                Command::SetPolicy { concert: CONCERT, change: policy.into() }
            }
            other => panic!("no such command: {other}"),
        };
        let pass = named.get("pass").is_some_and(|pass| *pass == 1);
        let request = Request { reply: ReplyTo(number), caller, key, pass, command };
        self.step(Input::Command(request));
    }

    fn ask(&mut self, reply: u64, caller: Caller, key: Option<RequestKey>, command: Command) {
        let request = Request { reply: ReplyTo(reply), caller, key, pass: false, command };
        self.step(Input::Command(request));
    }

    fn step(&mut self, input: Input) {
        let from = self.effects.len();
        self.shard.step(self.now, input, &mut self.effects);
        for effect in &self.effects[from..] {
            match effect {
                Effect::Append(entry) => self.entries.push((**entry).clone()),
                Effect::Mirror(MirrorOp::Lock(lock)) => {
                    self.mirror.retain(|other| other.seat != lock.seat);
                    self.mirror.push(*lock);
                }
                Effect::Mirror(MirrorOp::Unlock { seat, .. }) => {
                    self.mirror.retain(|lock| lock.seat != *seat);
                }
                _ => {}
            }
        }
    }

    fn ack(&mut self, count: usize) {
        let upto = self.acked.saturating_add(count).min(self.entries.len());
        assert!(upto > self.acked, "nothing to acknowledge");
        self.acked = upto;
        let head = self.head();
        let upto = self.entries[upto - 1].no;
        self.step(Input::Applied { upto, head });
    }

    fn head(&self) -> ChainHead {
        let mut hash = [0; 32];
        hash[24..].copy_from_slice(&(self.acked as u64).to_be_bytes());
        ChainHead { event_seq: self.acked as u64, hash }
    }

    /// A crash and a take-over: what was not acknowledged never reached the ledger.
    fn restart(&mut self) -> String {
        let before = self.shard.digest();
        self.entries.truncate(self.acked);
        self.epoch += 1;
        self.shard = Shard::new(ShardId(0), Epoch(self.epoch), self.settings);
        let restored = self.restored();
        self.shard.restore(self.now, restored).unwrap();
        // Entry numbers start again; the script's ledger keeps its own order.
        self.entries.iter_mut().for_each(|entry| entry.no = engine::EntryNo(0));
        if self.shard.digest() == before { "same".into() } else { "other".into() }
    }

    fn restored(&self) -> Restored {
        let mut rows: Vec<Reservation> = Vec::new();
        let mut restored =
            Restored { head: self.head(), soft_locks: self.mirror.clone(), ..Restored::default() };
        for entry in &self.entries {
            restored.newest_event = entry.at;
            let mut told = Told::Done;
            match &entry.fact {
                Fact::Reservation(row) => {
                    rows.retain(|other| other.id != row.id);
                    rows.push(row.clone());
                    let (status, version, deadline) = (row.status, row.version, row.deadline);
                    told = Told::Reservation { reservation: row.id, status, version, deadline };
                }
                Fact::Option { option, concert, status, version } => {
                    let (option, concert, status, version) = (*option, *concert, *status, *version);
                    restored.options =
                        vec![RestoredOption { option, concert, status, version, layout: layout() }];
                }
                Fact::Policy { concert, policy, version } => {
                    let (concert, policy, version) = (*concert, *policy, *version);
                    restored.policies = vec![RestoredPolicy { concert, policy, version }];
                }
            }
            if let Some(request) = entry.request {
                restored.answered.push(Answered { at: entry.at, caller: entry.caller, request, told });
            }
        }
        restored.reservations = rows;
        restored
    }

    fn show(&self, number: u64, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Reply { to, outcome, replayed } => {
                let to = if to.0 == number { String::new() } else { format!("#{to} ") };
                let replay = if *replayed { " (replay)" } else { "" };
                format!("{to}{}{replay}", show_outcome(outcome))
            }
            Effect::Append(entry) => match &entry.fact {
                Fact::Reservation(row) => {
                    format!("write {} {}", entry.fact.transition().name(), short(row.id))
                }
                _ => format!("write {}", entry.fact.transition().name()),
            },
            Effect::Halt(_) => "halt".into(),
            Effect::Mirror(MirrorOp::Lock(lock)) if self.all => format!("m+{}", lock.seat),
            Effect::Mirror(MirrorOp::Unlock { seat, .. }) if self.all => format!("m-{seat}"),
            Effect::Publish(change) if self.all => format!("{}:{}", change.seat, change.state.name()),
            Effect::Mirror(_) | Effect::Publish(_) => return None,
        })
    }
}

fn short(id: ReservationId) -> String {
    format!("r{}", id.0 >> 32)
}

fn seconds(time: Time) -> String {
    if time == Time::NEVER { "never".into() } else { (time.0 / 1_000_000).to_string() }
}

fn list(seats: &SeatList) -> String {
    seats.iter().map(|seat| seat.to_string()).collect::<Vec<_>>().join(" ")
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted(Granted::Selected { seats, expires_at, renewed, .. }) => {
            let what = if *renewed { "renewed" } else { "selected" };
            format!("ok {what} {} until {}", list(seats), seconds(*expires_at))
        }
        Outcome::Granted(Granted::Released { seats, .. }) => {
            format!("ok released {}", list(seats)).trim_end().into()
        }
        Outcome::Granted(Granted::Reserved { reservation: r, created }) => format!(
            "ok {} {} v{} until {} amount {}{}",
            r.status.name(),
            short(r.id),
            r.version,
            seconds(r.deadline),
            r.amount,
            if *created { " created" } else { "" }
        ),
        Outcome::Granted(Granted::Done) => "ok done".into(),
        Outcome::Refused(refusal) => {
            let more = match refusal {
                Refusal::SeatTaken(conflicts) => conflicts
                    .iter()
                    .map(|(seat, state)| format!(" {seat}={}", state.name()))
                    .collect::<String>(),
                Refusal::NotSelected(seats) => format!(" {}", list(seats)),
                Refusal::NoSeatsTogether { longest } => format!(" {longest}"),
                Refusal::ReservationState(status) => format!(" {}", status.name()),
                _ => String::new(),
            };
            format!("no {}{more}", refusal.code())
        }
        Outcome::Unavailable(unavailable) => format!("unavailable {}", unavailable.code()),
    }
}
