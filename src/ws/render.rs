//! What clients are told. The bodies are those of HTTP, with `ev` and `id` before them.

use engine::{ConcertId, Granted, Outcome, SeatList, Time};
use serde::Serialize;
use uuid::Uuid;

use actors::followers::Selection;
use actors::handle::Answer;

use super::message::Id;
use super::queues::Answered;
use crate::catalogue::directory::OptionEntry;
use crate::http::ask::unexpected;
use crate::http::error::Problem;
use crate::http::queue::Told;
use crate::http::wire::{Instant, Labelled, ReleasedView, ReservationView, SelectionView};

const VEC: &str = "a Vec takes every byte";

/// `{"ev":"ok"}`, with nothing to add.
pub fn ok(out: &mut Vec<u8>, id: &Id) {
    head(out, "ok", id);
    out.push(b'}');
}

/// `{"ev":"ok",…}` or `{"ev":"no",…}`: what the shard answered. A problem is returned too, for the log.
pub fn answer(
    out: &mut Vec<u8>,
    id: &Id,
    entry: &OptionEntry,
    answer: Answer,
    socket: Uuid,
) -> Option<Problem> {
    let option_id = entry.option.0;
    let problem = match answer.outcome {
        Outcome::Granted(Granted::Selected { seats, expires_at, renewed, .. }) => {
            head(out, "ok", id);
            flag(out, "renewed", renewed);
            let seats = Labelled::new(entry, seats);
            body(out, &SelectionView { option_id, seats, expires_at: Instant(expires_at) });
            return None;
        }
        Outcome::Granted(Granted::Released { seats, .. }) => {
            head(out, "ok", id);
            body(out, &ReleasedView { option_id, released: Labelled::new(entry, seats) });
            return None;
        }
        Outcome::Granted(Granted::Reserved { reservation, .. }) => {
            head(out, "ok", id);
            flag(out, "replayed", answer.replayed);
            body(out, &ReservationView::new(&reservation, entry));
            return None;
        }
        Outcome::Granted(other) => unexpected(&other),
        Outcome::Refused(refusal) => refusal.into(),
        Outcome::Unavailable(unavailable) => unavailable.into(),
    };
    no(out, id, &problem, socket);
    Some(problem)
}

/// `{"ev":"no",…}` with the problem. `socket` is its request id, as the log names it.
pub fn no(out: &mut Vec<u8>, id: &Id, problem: &Problem, socket: Uuid) {
    head(out, "no", id);
    let start = out.len();
    out.extend_from_slice(&problem.body(socket.hyphenated().encode_lower(&mut Uuid::encode_buffer())));
    out[start] = b',';
}

/// `{"ev":"mine",…}`: what I have selected now, and until when at least.
pub fn mine(out: &mut Vec<u8>, selection: &Selection) {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Mine {
        ev: &'static str,
        option: u32,
        seats: Vec<u32>,
        expires_at: Option<Instant>,
    }
    let numbers = |seats: &SeatList| seats.iter().map(|seat| seat.0).collect();
    let until = Some(selection.expires_at).filter(|at| *at != Time::NEVER);
    let mine = Mine {
        ev: "mine",
        option: selection.option.0,
        seats: numbers(&selection.seats),
        expires_at: until.map(Instant),
    };
    serde_json::to_writer(out, &mine).expect(VEC);
}

/// `{"ev":"ok",…}` with how it stands at a gate, or what there was to leave.
pub fn gate(out: &mut Vec<u8>, id: &Id, answered: &Answered) {
    head(out, "ok", id);
    match answered {
        Answered::Standing(view) => body(out, view),
        Answered::Left(view) => body(out, view),
    }
}

/// `{"ev":"queue",…}`: what a gate tells.
pub fn queue(out: &mut Vec<u8>, concert: ConcertId, told: &Told) {
    let head = format!("{{\"ev\":\"queue\",\"concert\":{},\"event\":\"{}\"", concert.0, told.name());
    out.extend_from_slice(head.as_bytes());
    let start = out.len();
    told.write(out);
    if out.len() == start + 2 {
        // Nothing to say but that it is there.
        out.remove(start);
    } else {
        out[start] = b',';
    }
}

/// `{"ev":"bye",…}`: the last thing before a close.
pub fn bye(out: &mut Vec<u8>, reason: &str, retry_after_ms: u64) {
    let text = format!("{{\"ev\":\"bye\",\"reason\":\"{reason}\",\"retryAfterMs\":{retry_after_ms}}}");
    out.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, event: &str, id: &Id) {
    out.extend_from_slice(b"{\"ev\":\"");
    out.extend_from_slice(event.as_bytes());
    out.push(b'"');
    if let Some(id) = id.json() {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_bytes());
    }
}

fn flag(out: &mut Vec<u8>, name: &str, is_set: bool) {
    if is_set {
        out.extend_from_slice(format!(",\"{name}\":true").as_bytes());
    }
}

/// The fields of an object that is never empty, after those that are there.
fn body(out: &mut Vec<u8>, body: &impl Serialize) {
    let start = out.len();
    serde_json::to_writer(&mut *out, body).expect(VEC);
    out[start] = b',';
}

#[cfg(test)]
mod tests {
    use engine::{OptionId, Refusal, SeatNo};
    use serde_json::{Value, json};

    use super::*;

    fn told(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
    }

    fn id(text: &str) -> Id {
        let frame = format!("{{\"op\":\"ping\",\"id\":{text}}}");
        super::super::message::read(&frame).unwrap().remove(0).unwrap().id
    }

    #[test]
    fn answers_carry_the_id_as_it_was_given() {
        assert_eq!(told(|out| ok(out, &Id::default())), json!({"ev": "ok"}));
        assert_eq!(told(|out| ok(out, &id("\"c1\""))), json!({"ev": "ok", "id": "c1"}));
        assert_eq!(told(|out| ok(out, &id("-12"))), json!({"ev": "ok", "id": -12}));
        let refused = told(|out| no(out, &id("7"), &Refusal::SeatsInvalid.into(), Uuid::nil()));
        assert_eq!(refused["ev"], "no");
        assert_eq!(refused["id"], 7);
        assert_eq!(refused["code"], "SEATS_INVALID");
        assert_eq!(refused["status"], 422);
        assert_eq!(refused["requestId"], "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn mine_says_until_when_and_nothing_has_no_end() {
        let option = OptionId(7);
        let seats = [3, 4].into_iter().map(SeatNo).collect();
        let some = Selection { option, seats, expires_at: Time(1_000_000) };
        let none = Selection { option, seats: SeatList::default(), expires_at: Time::NEVER };
        let text = "1970-01-01T00:00:01Z";
        let expected = json!({"ev": "mine", "option": 7, "seats": [3, 4], "expiresAt": text});
        assert_eq!(told(|out| mine(out, &some)), expected);
        let expected = json!({"ev": "mine", "option": 7, "seats": [], "expiresAt": null});
        assert_eq!(told(|out| mine(out, &none)), expected);
    }

    #[test]
    fn what_a_gate_tells_has_its_data_beside_its_name() {
        let ended = told(|out| queue(out, ConcertId(7), &Told::Ended(engine::gate::PassEnd::Expired)));
        assert_eq!(ended, json!({"ev": "queue", "concert": 7, "event": "ENDED", "why": "EXPIRED"}));
        let alive = told(|out| queue(out, ConcertId(7), &Told::KeepAlive));
        assert_eq!(alive, json!({"ev": "queue", "concert": 7, "event": "KEEPALIVE"}));
    }

    #[test]
    fn bye_names_its_reason() {
        let expected = json!({"ev": "bye", "reason": "SHUTDOWN", "retryAfterMs": 17});
        assert_eq!(told(|out| bye(out, "SHUTDOWN", 17)), expected);
    }
}
