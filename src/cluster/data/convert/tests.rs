//! Everything that travels comes back as it was.

use actors::handle::Memory;
use actors::mirror::check::{MirrorCheck, MirrorDifference};
use actors::resync::Counts;
use engine::ChainHead;
use engine::shard::Difference;
use http_body_util::BodyExt as _;

use super::*;
use crate::cluster::data::memory;
use crate::cluster::data::wire::{decode, encode};

fn list(seats: &[u32]) -> SeatList {
    seats.iter().copied().map(SeatNo).collect()
}

fn reservation() -> Reservation {
    Reservation {
        id: ReservationId(0x0190_0000_0000_7000_8000_0000_0000_0007),
        kind: Kind::Sale,
        user: UserId(42),
        concert: ConcertId(3),
        option: OptionId(7),
        seats: list(&[1, 2]),
        status: Status::Paying,
        version: 2,
        amount: 12_000,
        deadline: Time(1_800_000_000_000_000),
        created_at: Time(1_799_999_000_000_000),
        changed_at: Time(1_799_999_500_000_000),
        payment_started: true,
    }
}

#[test]
fn every_command_travels() {
    let (option, reservation) = (OptionId(7), ReservationId(9 << 80 | 7));
    let commands = [
        Command::Select { option, seats: list(&[3, 4]) },
        // More than a command may name: the refusal is the engine's.
        Command::Select { option, seats: list(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) },
        Command::SelectBest { option, party: 2, section: Some(1), category: None },
        Command::Release { option, seats: None },
        Command::Release { option, seats: Some(list(&[3])) },
        Command::Hold { option, seats: list(&[3]), reservation },
        Command::StartPaying { reservation },
        Command::Confirm { reservation },
        Command::Cancel { reservation },
        Command::Refund { reservation },
        Command::Block { option, seats: list(&[3]), reservation },
        Command::Unblock { reservation },
        Command::SetOptionStatus { option, status: OptionStatus::Closed },
        Command::SetPolicy {
            concert: ConcertId(3),
            change: PolicyChange { reservations_per_user: Some(4), gate: None },
        },
    ];
    for (authority, command) in [Authority::Own, Authority::Any].into_iter().cycle().zip(commands) {
        let caller = Caller { user: UserId(42), authority };
        let ask = handle::Ask { caller, key: Some(RequestKey(5)), pass: Some(PassId(9)), command };
        let bytes = encode(&ask_out(&ask).unwrap()).unwrap();
        let back = ask_in(decode(&bytes).unwrap()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{ask:?}"));
        assert_eq!(back.command.content(), ask.command.content());
    }
}

#[test]
fn every_answer_travels() {
    let option = OptionId(7);
    let mut conflicts = Conflicts::default();
    conflicts.push(SeatNo(3), SeatState::Selecting);
    conflicts.push(SeatNo(4), SeatState::Confirmed);
    let refusals = [
        Refusal::OptionUnknown,
        Refusal::RequestReused,
        Refusal::PassRequired,
        Refusal::OptionClosed,
        Refusal::SeatsInvalid,
        Refusal::LimitReached,
        Refusal::SelectTooLong,
        Refusal::SeatTaken(conflicts),
        Refusal::NotSelected(list(&[8])),
        Refusal::NoSeatsTogether { longest: 3 },
        Refusal::ReservationUnknown,
        Refusal::HoldExpired,
        Refusal::ReservationState(Status::Refunded),
    ];
    let granted = [
        Granted::Selected { option, seats: list(&[1]), expires_at: Time(5), renewed: true },
        Granted::Released { option, seats: list(&[]) },
        Granted::Reserved { reservation: Box::new(reservation()), created: true },
        Granted::Done,
    ];
    let outcomes = (refusals.map(Outcome::Refused).into_iter())
        .chain(granted.map(Outcome::Granted))
        .chain([Unavailable::Overloaded, Unavailable::Ledger].map(Outcome::Unavailable));
    for (outcome, replayed) in outcomes.zip([true, false].into_iter().cycle()) {
        let answer = handle::Answer { outcome, replayed };
        let bytes = encode(&answer_out(&answer)).unwrap();
        assert_eq!(answer_in(decode(&bytes).unwrap()), Ok(answer));
    }
}

#[test]
fn every_call_and_what_it_returns_travels() {
    let attempt = handoff::Attempt { epoch: Epoch(4), no: 2 };
    let shard = ShardId(3);
    let owner = ports::Owner {
        id: 9,
        node: "a".to_owned(),
        public_url: "http://a".to_owned(),
        peer_url: "a:7400".to_owned(),
    };
    let lock = SoftLock {
        option: OptionId(7),
        seat: SeatNo(1),
        user: UserId(2),
        first_at: Time(3),
        expires_at: Time(4),
    };
    let calls = [
        Call::Reservation(shard, ReservationId(5)),
        Call::Selection(shard, UserId(2), OptionId(7)),
        Call::Prepare(shard, attempt),
        Call::Hold(shard, attempt, vec![lock]),
        Call::HandedOver(shard, attempt),
        Call::Resumed(shard, attempt),
        Call::Memory(shard),
        Call::CheckMirror(shard),
        Call::Resync(shard),
    ];
    for call in calls {
        let bytes = encode(&call_out(&owner, call.clone())).unwrap();
        let back: wire::Call = decode(&bytes).unwrap();
        assert_eq!(format!("{:?}", call_in(&back.question)), format!("{call:?}"));
        assert_eq!(owner_in(back.from), owner);
    }
    let selection = Selection { option: OptionId(7), seats: list(&[1]), expires_at: Time(9) };
    let returned = [
        Ok(Returned::Reservation(Some(reservation()))),
        Ok(Returned::Reservation(None)),
        Ok(Returned::Selection(selection)),
        Ok(Returned::Done),
        Err(PeerError::NotOwner(Some((Epoch(4), owner)))),
        Err(PeerError::NotOwner(None)),
        Err(PeerError::Unavailable(Unavailable::Overloaded)),
        Err(PeerError::Unavailable(Unavailable::Ledger)),
        Err(PeerError::Refused("no".to_owned())),
        Ok(Returned::Mirror(mirror_check())),
        Ok(Returned::MirrorAway("no".to_owned())),
        Ok(Returned::Resynced(compared())),
        Ok(Returned::Resynced(Resynced::Restored { memory: head(3), ledger: head(4) })),
        Ok(Returned::Contradiction("no".to_owned())),
    ];
    for one in returned {
        let bytes = encode(&returned_out(one.clone())).unwrap();
        assert_eq!(returned_in(decode(&bytes).unwrap()), one);
    }
}

fn head(event_seq: u64) -> ChainHead {
    ChainHead { event_seq, hash: [7; 32] }
}

fn mirror_check() -> MirrorCheck {
    let found = |seat, memory, mirror| MirrorDifference {
        option: OptionId(7),
        seat: SeatNo(seat),
        memory: Option::map(memory, UserId),
        mirror: Option::map(mirror, UserId),
    };
    let differences = vec![found(1, Some(5), None), found(2, None, Some(6)), found(3, Some(5), Some(6))];
    MirrorCheck { options: 2, soft_locks: 9, differences }
}

fn compared() -> Resynced {
    let (option, concert, seat) = (OptionId(7), ConcertId(3), SeatNo(1));
    let row = || Some(Box::new(reservation()));
    let policy = engine::option::Policy { reservations_per_user: 4, gate: true };
    let differences = vec![
        Difference::Reservation { id: reservation().id, memory: row(), ledger: None },
        Difference::Reservation { id: reservation().id, memory: None, ledger: row() },
        Difference::Option { option, memory: Some((OptionStatus::OnSale, 2)), ledger: None },
        Difference::Policy { concert, memory: None, ledger: Some((policy, 3)) },
        Difference::Seat { option, seat, memory: SeatState::Hold, ledger: SeatState::Confirmed },
        Difference::SoftLock { option, seat, user: UserId(2) },
    ];
    let counts = Counts { all: 1_000_000, by_option: [(option, 999_999)].into() };
    Resynced::Compared { head: head(5), differences, counts }
}

/// As one node sends it and another reads it, in more parts than one.
#[tokio::test]
async fn a_memory_travels_in_parts_and_arrives_whole() {
    let rows = (0..10_000_u128).map(|no| Reservation { id: ReservationId(no << 80 | 7), ..reservation() });
    let states = [SeatState::Available, SeatState::Selecting, SeatState::Hold, SeatState::Confirmed];
    let memory = Box::new(Memory {
        shard: ShardId(3),
        epoch: Epoch(4),
        head: head(5),
        digest: u64::MAX,
        pending: 1,
        reservations: rows.collect(),
        options: vec![(OptionId(7), states.repeat(50_000)), (OptionId(8), Vec::new())],
    });
    let sent = memory::send(memory.clone()).collect().await.unwrap().to_bytes();
    let mut frames = wire::Frames::default();
    frames.push(&sent);
    let wire::Returned::Memory(head) = decode(&frames.next().unwrap().unwrap()).unwrap() else {
        panic!("no head")
    };
    let mut arriving = memory::Arriving::new(&head);
    let mut parts = 0;
    while !arriving.is_whole() {
        arriving.add(decode(&frames.next().unwrap().unwrap()).unwrap()).unwrap();
        parts += 1;
    }
    assert_eq!(parts, 5, "three of reservations, one of each option");
    assert_eq!(frames.next(), Ok(None));
    assert_eq!(arriving.into_memory(), memory);
}

#[test]
fn a_number_that_means_nothing_makes_the_message_none() {
    let status = wire::Command::SetOptionStatus { option: 7, status: 9 };
    assert!(command_in(status).is_err());
    for number in [0, 8, 9, 10, 13, 14, 255] {
        assert!(refusal_in(wire::Refusal::Plain(number)).is_err(), "{number}");
    }
    assert!(refusal_in(wire::Refusal::ReservationState(7)).is_err());
    let of_an_option = wire::Difference::Option { option: 7, memory: Some((9, 1)), ledger: None };
    let head = wire::Head { event_seq: 1, hash: [0; 32] };
    assert!(audits::compared_in(&head, &[of_an_option], 1, &[]).is_err());
}
