//! What clients say: a text frame is one message or an array of them.

use std::borrow::Cow;

use actors::feed::Position;
use engine::ids::PUBLIC_ID_MAX;
use engine::{ConcertId, OptionId, Refusal, RequestKey, SeatList};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::error::Problem;
use crate::http::extract::from_json;
use crate::http::idempotency::IdempotencyKey;
use crate::http::queue::{Form, concert_id_of};
use crate::http::selections::Best;
use crate::http::wire::{Object, Seats};

/// Messages that one frame may hold.
pub const MESSAGES_PER_FRAME: usize = 64;

/// Bytes of an `id`, with its quotes.
const ID_BYTES: usize = 64;

/// The name that a client gives to a message, as the JSON it is, so that the answer carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Id(Option<Box<str>>);

impl Id {
    /// A string or a number, unless there is none.
    pub fn json(&self) -> Option<&str> {
        self.0.as_deref()
    }

    fn new(raw: Option<&RawValue>) -> Result<Self, Problem> {
        let Some(raw) = raw else { return Ok(Self(None)) };
        let text = raw.get();
        let is_name = text.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
        if is_name && text.len() <= ID_BYTES {
            Ok(Self(Some(text.into())))
        } else {
            Err(Problem::malformed("/id", "An id is a string or a number of at most 64 bytes."))
        }
    }
}

/// A message, or why it is none, with its id where that can be told.
pub type Said = Result<Message, (Id, Problem)>;

/// A message that can be read.
#[derive(Debug)]
pub struct Message {
    pub id: Id,
    pub op: Op,
}

#[derive(Debug)]
pub enum Op {
    Auth { token: String },
    Pass { pass: String },
    Watch { option: OptionId, since: Option<Position> },
    Unwatch { option: OptionId },
    Click { option: OptionId, wish: Wish },
    Gate { concert: ConcertId, wish: GateWish },
    Queue { concert: ConcertId, form: Form },
    Unqueue { concert: ConcertId },
    Ping,
}

/// What is wanted of an option's seats.
#[derive(Debug)]
pub enum Wish {
    Select(SeatList),
    Best(Best),
    /// These, or all of mine.
    Release(Option<SeatList>),
    Hold(SeatList, RequestKey),
}

/// What is wanted of a concert's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateWish {
    Join,
    Status,
    Leave,
}

/// Every field of every message; which of them belong to an `op` is decided afterwards, because serde reads a
/// tagged enum by way of a tree, which costs several times as much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    option: Option<u64>,
    concert: Option<u64>,
    form: Option<String>,
    seats: Option<Seats>,
    best: Option<Object<Best>>,
    key: Option<String>,
    since: Option<String>,
    token: Option<String>,
    pass: Option<String>,
}

/// Reads a frame. Pointers are into the message.
///
/// # Errors
/// The frame as a whole is neither a message nor a list of 1 to 64.
pub fn read(text: &str) -> Result<Vec<Said>, Problem> {
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(vec![one(text)]);
    }
    let whole: Result<Vec<Object<Fields<'_>>>, _> = serde_json::from_str(text);
    let messages: Vec<_> = match whole {
        Ok(list) => list.into_iter().map(|Object(fields)| fields.message()).collect(),
        // Somewhere in it is a mistake: the others are good all the same.
        Err(_) => {
            let list: Vec<&RawValue> = serde_json::from_str(text)
                .map_err(|error| Problem::malformed("", format!("The frame is no JSON: {error}.")))?;
            list.into_iter().map(|raw| one(raw.get())).collect()
        }
    };
    if (1..=MESSAGES_PER_FRAME).contains(&messages.len()) {
        Ok(messages)
    } else {
        Err(Problem::malformed("", "A frame holds 1 to 64 messages."))
    }
}

fn one(text: &str) -> Said {
    match from_json::<Fields<'_>>(text.as_bytes()) {
        Ok(fields) => fields.message(),
        Err(problem) => Err((id_of(text), problem)),
    }
}

/// The id of a message in which something else is wrong.
fn id_of(text: &str) -> Id {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow, default)]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_str::<Object<OnlyId<'_>>>(text).ok().and_then(|Object(only)| only.id);
    Id::new(id).unwrap_or_default()
}

impl Fields<'_> {
    fn message(self) -> Said {
        let id = Id::new(self.id).map_err(|problem| (Id::default(), problem))?;
        match self.op() {
            Ok(op) => Ok(Message { id, op }),
            Err(problem) => Err((id, problem)),
        }
    }

    fn op(self) -> Result<Op, Problem> {
        self.check_fields()?;
        let option = self.option.map(option_id);
        let option = || option.unwrap_or_else(|| Err(missing("option", "Say which `option`.")));
        let concert = || {
            let number = self.concert.ok_or_else(|| missing("concert", "Say which `concert`."))?;
            concert_id_of(number, "/concert")
        };
        let gate = |wish| Ok(Op::Gate { concert: concert()?, wish });
        match &*self.op {
            "ping" => Ok(Op::Ping),
            "auth" => match self.token {
                Some(token) => Ok(Op::Auth { token }),
                None => Err(missing("token", "Send the `token`.")),
            },
            "pass" => match self.pass {
                Some(pass) => Ok(Op::Pass { pass }),
                None => Err(missing("pass", "Send the `pass`.")),
            },
            "watch" => {
                let option = option()?;
                let since = self.since.as_deref().map(str::parse).transpose();
                let since =
                    since.map_err(|_| missing("since", "A position is EPOCH.SEQ, such as \"3.1042\"."))?;
                Ok(Op::Watch { option, since })
            }
            "unwatch" => Ok(Op::Unwatch { option: option()? }),
            "select" => {
                let wish = match (self.seats, self.best) {
                    (Some(Seats(seats)), None) => Wish::Select(seats),
                    (None, Some(Object(best))) => Wish::Best(best),
                    _ => return Err(missing("seats", "Send either `seats` or `best`.")),
                };
                Ok(Op::Click { option: option()?, wish })
            }
            "release" => {
                Ok(Op::Click { option: option()?, wish: Wish::Release(self.seats.map(|Seats(seats)| seats)) })
            }
            "join" => gate(GateWish::Join),
            "queue-status" => gate(GateWish::Status),
            "leave" => gate(GateWish::Leave),
            "queue" => {
                let form = Form::read(self.form.as_deref(), "/form")?;
                Ok(Op::Queue { concert: concert()?, form })
            }
            "unqueue" => Ok(Op::Unqueue { concert: concert()? }),
            // `check_fields` knows no other.
            _ => {
                let key = self
                    .key
                    .ok_or_else(|| missing("key", "A hold needs a `key`; a retry sends it again."))?;
                let IdempotencyKey(key) = IdempotencyKey::read(key.as_bytes(), "/key")?;
                let Seats(seats) = self.seats.ok_or_else(|| missing("seats", "Say which `seats`."))?;
                Ok(Op::Click { option: option()?, wish: Wish::Hold(seats, key) })
            }
        }
    }

    /// Nothing that a client wrote is ignored.
    fn check_fields(&self) -> Result<(), Problem> {
        let allowed: &[&str] = match &*self.op {
            "auth" => &["token"],
            "pass" => &["pass"],
            "watch" => &["option", "since"],
            "unwatch" => &["option"],
            "select" => &["option", "seats", "best"],
            "release" => &["option", "seats"],
            "hold" => &["option", "seats", "key"],
            "join" | "queue-status" | "leave" | "unqueue" => &["concert"],
            "queue" => &["concert", "form"],
            "ping" => &[],
            _ => {
                let ops = "An op is auth, pass, watch, unwatch, select, release, hold, join, queue-status, leave, queue, \
                    unqueue or ping.";
                return Err(Problem::malformed("/op", ops));
            }
        };
        let fields = [
            ("option", self.option.is_some()),
            ("concert", self.concert.is_some()),
            ("form", self.form.is_some()),
            ("seats", self.seats.is_some()),
            ("best", self.best.is_some()),
            ("key", self.key.is_some()),
            ("since", self.since.is_some()),
            ("token", self.token.is_some()),
            ("pass", self.pass.is_some()),
        ];
        match fields.iter().find(|(name, is_there)| *is_there && !allowed.contains(name)) {
            Some((name, _)) => Err(missing(name, "This op has no such field.")),
            None => Ok(()),
        }
    }
}

/// Ids beyond 32 bits are well-formed, and no option has one.
fn option_id(number: u64) -> Result<OptionId, Problem> {
    if number == 0 || number > PUBLIC_ID_MAX {
        return Err(Problem::malformed("/option", "An id is an integer from 1 to 9007199254740991."));
    }
    u32::try_from(number).map(OptionId).map_err(|_| Problem::Refused(Refusal::OptionUnknown))
}

fn missing(field: &str, detail: &str) -> Problem {
    Problem::malformed(format!("/{field}"), detail)
}

#[cfg(test)]
mod tests {
    use engine::SeatNo;

    use super::*;

    /// What a frame says, a word or two for each message; mistakes by their pointer.
    fn said(text: &str) -> String {
        let pointer = |problem: &Problem| match problem {
            Problem::Malformed { pointer, .. } => format!("malformed {pointer:?}"),
            other => other.code().to_owned(),
        };
        let messages = match read(text) {
            Ok(messages) => messages,
            Err(problem) => return format!("frame {}", pointer(&problem)),
        };
        let one = |message: &Said| match message {
            Ok(Message { id, op }) => format!("{} {op:?}", id.json().unwrap_or("-")),
            Err((id, problem)) => format!("{} {}", id.json().unwrap_or("-"), pointer(problem)),
        };
        messages.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn messages_are_read_as_the_protocol_says() {
        let key = IdempotencyKey::read(b"k1", "").unwrap().0;
        let hold = format!("\"c2\" Click {{ option: OptionId(7), wish: Hold([3, 4], {key:?}) }}");
        let rows = [
            (r#"{"op":"ping","id":"p1"}"#, r#""p1" Ping"#),
            (r#" {"op":"auth","token":"t"} "#, r#"- Auth { token: "t" }"#),
            (r#"{"op":"pass","pass":"p","id":2}"#, r#"2 Pass { pass: "p" }"#),
            (r#"{"op":"watch","option":7,"id":1}"#, "1 Watch { option: OptionId(7), since: None }"),
            (r#"{"op":"unwatch","option":7}"#, "- Unwatch { option: OptionId(7) }"),
            (
                r#"{"op":"select","id":"c1","option":7,"seats":[3,4]}"#,
                r#""c1" Click { option: OptionId(7), wish: Select([3, 4]) }"#,
            ),
            (r#"{"op":"release","option":7}"#, "- Click { option: OptionId(7), wish: Release(None) }"),
            (r#"{"op":"hold","id":"c2","key":"k1","option":7,"seats":[3,4]}"#, &hold),
            (r#"[{"op":"ping"},{"op":"ping","id":-2}]"#, "- Ping; -2 Ping"),
            (r#"{"op":"join","id":1,"concert":7}"#, "1 Gate { concert: ConcertId(7), wish: Join }"),
            (r#"{"op":"queue-status","concert":7}"#, "- Gate { concert: ConcertId(7), wish: Status }"),
            (r#"{"op":"leave","concert":7}"#, "- Gate { concert: ConcertId(7), wish: Leave }"),
            (r#"{"op":"queue","concert":7}"#, "- Queue { concert: ConcertId(7), form: Ranks }"),
            (
                r#"{"op":"queue","concert":7,"form":"ticks"}"#,
                "- Queue { concert: ConcertId(7), form: Ticks }",
            ),
            (r#"{"op":"unqueue","concert":7}"#, "- Unqueue { concert: ConcertId(7) }"),
        ];
        for (text, expected) in rows {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn a_position_and_a_wish_for_the_best_are_read() {
        let mut messages = read(r#"[{"op":"watch","option":7,"since":"3.1042"}]"#).unwrap();
        let Ok(Message { op: Op::Watch { since: Some(since), .. }, .. }) = messages.remove(0) else {
            panic!("{messages:?}")
        };
        assert_eq!(since.to_string(), "3.1042");
        let best = r#"{"op":"select","option":7,"best":{"party":2,"section":"A"}}"#;
        assert!(matches!(
            read(best).unwrap().remove(0),
            Ok(Message { op: Op::Click { wish: Wish::Best(_), .. }, .. })
        ));
        let many = r#"{"op":"release","option":7,"seats":[1,2,3,4,5,6,7,8,9]}"#;
        match read(many).unwrap().remove(0) {
            Ok(Message { op: Op::Click { wish: Wish::Release(Some(seats)), .. }, .. }) => {
                assert_eq!((seats.len(), seats.as_slice()[0]), (9, SeatNo(1)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mistake_is_named_and_harms_no_neighbour() {
        let long = format!(r#"{{"op":"ping","id":"{}"}}"#, "x".repeat(63));
        let rows = [
            ("", "- malformed \"\""),
            ("garbage", "- malformed \"\""),
            ("7", "- malformed \"\""),
            ("[]", "frame malformed \"\""),
            ("[", "frame malformed \"\""),
            ("{}", "- malformed \"\""),
            (r#"{"op":"dance","id":"x"}"#, r#""x" malformed "/op""#),
            (r#"{"op":"ping","id":{}}"#, "- malformed \"/id\""),
            (r#"{"op":"ping","id":null}"#, "- Ping"),
            (&long, "- malformed \"/id\""),
            (r#"{"op":"ping","id":"x","seat":1}"#, r#""x" malformed "/seat""#),
            (r#"{"op":"ping","option":7}"#, "- malformed \"/option\""),
            (r#"{"op":"watch"}"#, "- malformed \"/option\""),
            (r#"{"op":"watch","option":0}"#, "- malformed \"/option\""),
            (r#"{"op":"watch","option":4294967296}"#, "- OPTION_UNKNOWN"),
            (r#"{"op":"watch","option":7,"since":"x"}"#, "- malformed \"/since\""),
            (r#"{"op":"select","option":7}"#, "- malformed \"/seats\""),
            (r#"{"op":"select","option":7,"seats":[1],"best":{"party":2}}"#, "- malformed \"/seats\""),
            (r#"{"op":"select","option":7,"seats":["x"]}"#, "- malformed \"/seats/0\""),
            (r#"{"op":"hold","option":7,"seats":[1]}"#, "- malformed \"/key\""),
            (r#"{"op":"hold","option":7,"seats":[1],"key":"a b"}"#, "- malformed \"/key\""),
            (r#"{"op":"hold","option":7,"key":"a"}"#, "- malformed \"/seats\""),
            (r#"{"op":"auth"}"#, "- malformed \"/token\""),
            (r#"{"op":"join"}"#, "- malformed \"/concert\""),
            (r#"{"op":"join","concert":0}"#, "- malformed \"/concert\""),
            (r#"{"op":"join","concert":9007199254740992}"#, "- malformed \"/concert\""),
            (r#"{"op":"join","concert":7,"form":"ticks"}"#, "- malformed \"/form\""),
            (r#"{"op":"queue","concert":7,"form":"graph"}"#, "- malformed \"/form\""),
            (r#"{"op":"leave","option":7}"#, "- malformed \"/option\""),
            (r#"{"op":"pass"}"#, "- malformed \"/pass\""),
            (r#"{"op":"watch","option":7,"pass":"p"}"#, "- malformed \"/pass\""),
            (r#"["ping"]"#, "- malformed \"\""),
            (
                r#"[{"op":"ping","id":1},{"op":"dance","id":2},{"op":"ping","id":3}]"#,
                "1 Ping; 2 malformed \"/op\"; 3 Ping",
            ),
            (r#"[{"op":"ping","id":1},{"oops":1,"id":2}]"#, "1 Ping; 2 malformed \"/oops\""),
        ];
        for (text, expected) in rows {
            assert_eq!(said(text), expected, "{text}");
        }
        let many = format!("[{}]", vec![r#"{"op":"ping"}"#; 65].join(","));
        assert_eq!(said(&many), "frame malformed \"\"");
    }
}
