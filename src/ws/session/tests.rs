use crate::http::auth::{Role, TokenKey};

use super::*;

const SECRET: &str = "a secret of the tests, 32 bytes or more";
const LIMITS: Limits = Limits { max_watches: 2, messages_per_second: 50 };

fn tokens() -> Tokens {
    Tokens::new(&TokenKey::Secret(SECRET.to_owned()), None).unwrap()
}

fn token(user: u64, seconds: u64) -> String {
    tokens().issue(user, Role::User, None, Duration::from_secs(seconds)).unwrap().0
}

fn auth(user: u64, seconds: u64) -> String {
    format!("{{\"op\":\"auth\",\"id\":\"a\",\"token\":\"{}\"}}", token(user, seconds))
}

/// A socket that was opened at second 0.
struct Socket {
    session: Session,
    opened: Instant,
    tokens: Tokens,
}

impl Socket {
    fn open(identity: Option<&Identity>) -> Self {
        let opened = Instant::now();
        Self {
            session: Session::new(opened, LIMITS, identity, Passbook::default()),
            opened,
            tokens: tokens(),
        }
    }

    fn of(user: u64) -> Self {
        let identity = tokens().check(&token(user, 3_600)).unwrap();
        Self::open(Some(&identity))
    }

    fn at(&self, seconds: f64) -> Instant {
        self.opened + Duration::from_secs_f64(seconds)
    }

    fn frame(&mut self, seconds: f64, frame: Frame<'_>) -> String {
        let mut actions = Vec::new();
        let now = self.at(seconds);
        // "CONCERT.USER.SECONDS", without a signature.
        let pass = |text: &str| {
            let mut numbers = text.split('.').map(|number| number.parse::<u64>().ok());
            let (concert, user, seconds) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let (concert, user) = (ConcertId(concert), UserId(user));
            let shown = Shown { pass: engine::PassId(1), user, concert, ends_at: engine::Time(0) };
            Some((shown, self.opened + Duration::from_secs(seconds)))
        };
        let checks = Checks { tokens: &self.tokens, pass: &pass };
        self.session.receive(now, frame, &checks, &mut actions);
        actions.iter().map(word).collect::<Vec<_>>().join("; ")
    }

    fn says(&mut self, seconds: f64, text: &str) -> String {
        self.frame(seconds, Frame::Text(text))
    }

    /// Every second of a span, what time alone leads to.
    fn waits(&mut self, seconds: std::ops::Range<u32>) -> Option<(u32, Reason)> {
        for second in seconds {
            let now = self.at(f64::from(second));
            if self.session.due().is_some_and(|due| due <= now)
                && let Some(reason) = self.session.tick(now)
            {
                return Some((second, reason));
            }
        }
        None
    }
}

fn word(action: &Action) -> String {
    let named = |word: &str, id: &Id| format!("{word} {}", id.json().unwrap_or("-"));
    match action {
        Action::Ok(id) => named("ok", id),
        Action::No(id, problem) => named(problem.code(), id),
        Action::Follow(user) => format!("follow {}", user.0),
        Action::Watch { option, since, .. } => match since {
            Some(since) => format!("watch {} since {since}", option.0),
            None => format!("watch {}", option.0),
        },
        Action::Unwatch(option) => format!("unwatch {}", option.0),
        Action::Click(click) => named(&format!("click of {}", click.caller.user.0), &click.id),
        Action::Gate { id, user, concert, wish } => {
            named(&format!("{wish:?} of {} at {}", user.0, concert.0), id)
        }
        Action::Queue { user, concert, form, .. } => format!("queue of {} at {} {form:?}", user.0, concert.0),
        Action::Unqueue(concert) => format!("unqueue {}", concert.0),
        Action::Bye(reason) => format!("bye {}", reason.name()),
    }
}

const SELECT: &str = r#"{"op":"select","id":"c","option":7,"seats":[3]}"#;

#[test]
fn who_one_is_comes_with_the_request_or_with_a_frame() {
    let mut known = Socket::of(7);
    assert_eq!(known.says(0.0, SELECT), r#"click of 7 "c""#);

    let mut stranger = Socket::open(None);
    assert_eq!(stranger.says(0.0, SELECT), r#"UNAUTHENTICATED "c""#);
    assert_eq!(stranger.says(0.1, r#"{"op":"auth","id":"a","token":"x"}"#), r#"UNAUTHENTICATED "a""#);
    let both = format!("[{},{SELECT}]", auth(7, 60));
    assert_eq!(stranger.says(0.2, &both), r#"follow 7; ok "a"; click of 7 "c""#);
    assert_eq!(stranger.says(0.3, &auth(8, 60)), r#"FORBIDDEN "a""#);
    assert_eq!(stranger.says(0.4, SELECT), r#"click of 7 "c""#);
}

#[test]
fn a_socket_ends_with_its_token_and_a_new_token_prolongs_it() {
    // Five seconds of leeway for clocks that differ, as everywhere.
    let mut socket = Socket::open(None);
    socket.says(0.0, &auth(7, 20));
    let ended = socket.waits(0..60).unwrap();
    assert_eq!(ended.1, Reason::TokenEnded);
    assert!((23..=26).contains(&ended.0), "{ended:?}");

    let mut socket = Socket::open(None);
    socket.says(0.0, &auth(7, 20));
    assert_eq!(socket.waits(0..10), None);
    assert_eq!(socket.says(10.0, &auth(7, 3_600)), r#"ok "a""#);
    assert_eq!(socket.waits(10..3_000), None);
}

#[test]
fn a_socket_says_within_five_seconds_what_it_is_for() {
    assert_eq!(Socket::open(None).waits(0..60), Some((5, Reason::Silent)));
    assert_eq!(Socket::of(7).waits(0..60), None);

    let mut pinging = Socket::open(None);
    pinging.says(1.0, r#"{"op":"ping"}"#);
    assert_eq!(pinging.waits(0..60), Some((5, Reason::Silent)));

    let mut watching = Socket::open(None);
    watching.says(1.0, r#"{"op":"watch","option":7}"#);
    assert_eq!(watching.waits(0..60), None);
    assert_eq!(watching.session.due(), None, "a viewer without a token has no deadline");

    let mut of_nothing = Socket::open(None);
    of_nothing.says(1.0, r#"{"op":"watch","option":7}"#);
    of_nothing.session.is_not_watched(OptionId(7));
    assert_eq!(of_nothing.waits(0..60), Some((5, Reason::Silent)));
}

#[test]
fn options_are_watched_up_to_the_bound() {
    let mut socket = Socket::open(None);
    let rows = [
        (r#"{"op":"watch","option":1,"since":"3.1042"}"#, "watch 1 since 3.1042"),
        (r#"{"op":"watch","option":2}"#, "watch 2"),
        (r#"{"op":"watch","option":2}"#, "watch 2"),
        (r#"{"op":"unwatch","option":2,"id":1}"#, "unwatch 2; ok 1"),
        (r#"{"op":"watch","option":3}"#, "watch 3"),
        (r#"[{"op":"watch","option":4},{"op":"ping"}]"#, "bye TOO_MANY_WATCHES"),
    ];
    for (text, expected) in rows {
        assert_eq!(socket.says(0.0, text), expected, "{text}");
    }
}

#[test]
fn gates_are_asked_and_followed_by_users_only_and_a_few_at_once() {
    let queue = |concert| format!("{{\"op\":\"queue\",\"id\":1,\"concert\":{concert}}}");
    let mut stranger = Socket::open(None);
    for text in
        [queue(1).as_str(), r#"{"op":"join","id":1,"concert":1}"#, r#"{"op":"leave","id":1,"concert":1}"#]
    {
        assert_eq!(stranger.says(0.0, text), "UNAUTHENTICATED 1", "{text}");
    }
    assert_eq!(stranger.waits(0..60), Some((5, Reason::Silent)), "what was refused is no reason to stay");

    let mut socket = Socket::of(7);
    assert_eq!(socket.says(0.0, r#"{"op":"join","id":1,"concert":1}"#), "Join of 7 at 1 1");
    for concert in [1, 2, 3, 4, 4] {
        let expected = format!("queue of 7 at {concert} Ranks");
        assert_eq!(socket.says(0.0, &queue(concert)), expected);
    }
    assert_eq!(socket.says(0.0, r#"{"op":"unqueue","id":2,"concert":4}"#), "unqueue 4; ok 2");
    assert_eq!(socket.says(0.0, &queue(5)), "queue of 7 at 5 Ranks");
    socket.session.is_not_queued(ConcertId(5));
    assert_eq!(socket.says(0.0, &queue(6)), "queue of 7 at 6 Ranks");
    assert_eq!(socket.says(0.0, &queue(7)), "bye TOO_MANY_QUEUES");
}

#[test]
fn mistakes_are_forgiven_now_and_then() {
    let mut socket = Socket::of(7);
    for second in 0..10 {
        assert_eq!(socket.says(f64::from(second) / 100.0, "garbage"), "MALFORMED -", "{second}");
    }
    assert_eq!(socket.says(0.2, "garbage"), "MALFORMED -; bye BAD_FRAMES");

    let mut slow = Socket::of(7);
    for mistake in 0..100 {
        let frame = if mistake % 2 == 0 { Frame::Binary } else { Frame::Text("[]") };
        assert_eq!(slow.frame(f64::from(mistake) * 5.1, frame), "MALFORMED -");
    }
    let beyond = r#"{"op":"watch","id":1,"option":4294967296}"#;
    for _ in 0..50 {
        assert_eq!(slow.says(1_000.0, beyond), "OPTION_UNKNOWN 1", "refused, and no mistake");
    }
}

#[test]
fn a_flood_ends_the_socket_whatever_it_is_made_of() {
    let ping = r#"{"op":"ping"}"#;
    let list = format!("[{}]", [ping; 10].join(","));
    let flood = |frame: Frame<'_>| {
        let mut socket = Socket::of(7);
        (0..1_000).find(|_| socket.frame(0.0, frame).ends_with("bye RATE_LIMITED")).unwrap()
    };
    assert_eq!(flood(Frame::Text(ping)), 100);
    assert_eq!(flood(Frame::Text(&list)), 10);
    assert_eq!(flood(Frame::Control), 100);

    let mut steady = Socket::of(7);
    for n in 0..1_000 {
        assert_eq!(steady.says(f64::from(n) / 50.0, ping), "ok -", "{n}");
    }
}

#[test]
fn close_codes_are_those_a_browser_accepts() {
    let reasons = [
        Reason::Silent,
        Reason::TokenEnded,
        Reason::RateLimited,
        Reason::BadFrames,
        Reason::TooLarge,
        Reason::NotUtf8,
        Reason::ProtocolError,
        Reason::TooManyWatches,
        Reason::TooManyQueues,
        Reason::Shutdown,
    ];
    for reason in reasons {
        assert!([1001, 1002, 1007, 1008, 1009].contains(&reason.close_code()), "{reason:?}");
    }
}

fn shows(concert: u64, user: u64, seconds: u64) -> String {
    format!("{{\"op\":\"pass\",\"id\":\"p\",\"pass\":\"{concert}.{user}.{seconds}\"}}")
}

#[test]
fn a_pass_opens_its_concert_to_its_user_until_it_ends() {
    let mut socket = Socket::open(None);
    let may = |socket: &Socket, seconds: f64, concert| {
        let until = socket.session.may_watch(socket.at(seconds), ConcertId(concert)).ok();
        until.map(|until| until.map(|until| (until - socket.opened).as_secs()))
    };
    assert_eq!(may(&socket, 0.0, 5), None);
    assert_eq!(socket.says(0.0, &shows(5, 7, 60)), r#"ok "p""#);
    assert_eq!(may(&socket, 1.0, 5), Some(Some(60)), "a stranger with a pass");
    assert_eq!(may(&socket, 1.0, 6), None);
    assert_eq!(may(&socket, 60.0, 5), None);
    assert_eq!(socket.says(1.0, &shows(5, 7, 90)), r#"ok "p""#);
    assert_eq!(may(&socket, 60.0, 5), Some(Some(90)), "a later one");

    socket.says(2.0, &auth(8, 3_600));
    assert_eq!(may(&socket, 2.0, 5), None, "another user's");
    assert_eq!(socket.says(2.0, &shows(5, 8, 60)), r#"ok "p""#);
    assert_eq!(may(&socket, 2.0, 5), Some(Some(60)));
}

#[test]
fn operators_look_without_a_pass() {
    for (role, looks) in [(Role::Admin, true), (Role::Ops, true), (Role::Payment, false), (Role::User, false)]
    {
        let token = tokens().issue(7, role, None, Duration::from_secs(60)).unwrap().0;
        let socket = Socket::open(Some(&tokens().check(&token).unwrap()));
        let may = socket.session.may_watch(socket.opened, ConcertId(5));
        assert_eq!(may, if looks { Ok(None) } else { Err(Refusal::PassRequired) }, "{role:?}");
    }
}

#[test]
fn an_operators_socket_does_not_become_a_users() {
    let issue = |role| tokens().issue(7, role, None, Duration::from_secs(60)).unwrap().0;
    let auth = |role| format!(r#"{{"op":"auth","id":"a","token":"{}"}}"#, issue(role));
    let mut socket = Socket::open(Some(&tokens().check(&issue(Role::Admin)).unwrap()));
    socket.says(0.0, r#"{"op":"watch","id":"w","option":5}"#);
    for role in [Role::User, Role::Payment] {
        assert_eq!(socket.says(1.0, &auth(role)), r#"FORBIDDEN "a""#, "it would go on to watch");
    }
    assert_eq!(socket.says(1.0, &auth(Role::Ops)), r#"ok "a""#);
    let mut other = Socket::of(7);
    for role in [Role::Payment, Role::User, Role::Admin, Role::Ops] {
        assert_eq!(other.says(1.0, &auth(role)), r#"ok "a""#, "{role:?}");
    }
}

#[test]
fn a_pass_that_proves_nothing_is_a_mistake() {
    let mut socket = Socket::of(7);
    let bad = r#"{"op":"pass","id":"p","pass":"x"}"#;
    for _ in 0..10 {
        assert_eq!(socket.says(0.0, bad), r#"PASS_REQUIRED "p""#);
    }
    assert_eq!(socket.says(0.0, bad), r#"PASS_REQUIRED "p"; bye BAD_FRAMES"#);
}
