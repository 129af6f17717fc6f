use proptest::prelude::*;

use super::super::wire::{
    Answer, Beat, Body, ControlHint, ControlReply, ControlRequest, Envelope, Hello, Refusal, Route,
    ShardMove, Stage,
};
use super::*;

fn hello() -> Hello {
    Hello {
        cluster_id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        protocol_min: 1,
        protocol_max: 2,
        node: "east-1".to_owned(),
        id: 7,
        public_url: "http://a".to_owned(),
        peer_url: "b:1".to_owned(),
        public_door: "c:2".to_owned(),
        ops_door: String::new(),
        build: "0.1.0".to_owned(),
    }
}

fn beat() -> Beat {
    Beat { version: 3, draining: true, ledger_away: Some(250), shards: vec![(1, 2), (63, 9)] }
}

fn bodies() -> Vec<Body> {
    let route = Route {
        shard: 17,
        epoch: 4,
        owner: 9,
        node: "n".to_owned(),
        public_url: "u".to_owned(),
        peer_url: "p".to_owned(),
    };
    vec![
        Body::Hello(hello(), beat()),
        Body::Beat(beat()),
        Body::Request(ControlRequest::MoveShard { shard: 17, to: 9, id: 3 }),
        Body::Request(ControlRequest::Drain),
        Body::Request(ControlRequest::MoveStatus),
        Body::Hint(ControlHint::RouteChanged(route)),
        Body::Farewell,
    ]
}

fn answers() -> Vec<Answer> {
    let stages = [
        (Stage::Waiting, Some(7)),
        (Stage::Preparing, None),
        (Stage::Moving, None),
        (Stage::Done, None),
        (Stage::Failed("no".to_owned()), None),
    ];
    let moves = stages.map(|(stage, eta)| ShardMove {
        id: 3,
        shard: 17,
        from: "a".to_owned(),
        to: "b".to_owned(),
        stage,
        since: 5,
        eta,
    });
    let node = || "a".to_owned();
    let refusals = [
        Refusal::NotHere(17),
        Refusal::NodeUnknown(node()),
        Refusal::NodeSilent(node()),
        Refusal::NodeDraining(node()),
        Refusal::Moving(17, node()),
        Refusal::Nowhere,
    ];
    let mut answers = vec![
        Answer::Welcome(hello(), beat()),
        Answer::Refused(hello(), "no".to_owned()),
        Answer::Beat(beat()),
        Answer::Reply(ControlReply::Moves(moves.into())),
        Answer::Busy,
        Answer::Stranger,
        Answer::Noted,
        Answer::Unreadable("no".to_owned()),
    ];
    answers.extend(refusals.map(|refusal| Answer::Reply(ControlReply::Refused(refusal))));
    answers
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Another version of the program reads these bytes too: a change here is a change of the protocol.
#[test]
fn the_bytes_stay_what_they_are() {
    let mut lines = Vec::new();
    for body in bodies() {
        let envelope = Envelope { from: 5, body };
        let bytes = encode(&envelope).unwrap();
        lines.push(hex(&bytes));
        assert_eq!(decode(&bytes), Ok(envelope));
    }
    for answer in answers() {
        let bytes = encode(&answer).unwrap();
        lines.push(hex(&bytes));
        assert_eq!(decode(&bytes), Ok(answer));
    }
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(lines, golden);
}

#[test]
fn what_is_no_message_says_why() {
    let farewell = encode(&Envelope { from: 5, body: Body::Farewell }).unwrap();
    let check = |bytes: &[u8]| decode::<Envelope>(bytes).unwrap_err().to_string();
    let senseless = |bytes: &[u8]| assert!(check(bytes).starts_with("a message that makes no sense: "));
    assert_eq!(check(b""), "not a message of hotseat");
    assert_eq!(check(b"hs"), "not a message of hotseat");
    assert_eq!(check(b"GET / HTTP/1.1"), "not a message of hotseat");
    assert_eq!(
        check(&[b"hs\x02\x00", &farewell[4..]].concat()),
        "a message in version 2, and this node reads 1: upgrade the older one of the two"
    );
    assert_eq!(
        check(&[&farewell[..], b"x"].concat()),
        "a message that makes no sense: 1 bytes behind its end"
    );
    senseless(&farewell[..farewell.len() - 1]);
    // A variant of the next version, and a length that nobody could send.
    senseless(&[&farewell[..20], &[9, 0, 0, 0]].concat());
    senseless(&[&farewell[..20], &[1, 0, 0, 0], &[1; 8], &[0, 0], &[255; 40]].concat());
    assert_eq!(check(&vec![0; BYTES_MAX + 1]), "a message of 1048577 bytes, of at most 1048576");
}

#[test]
fn the_status_of_whoever_owns_everything_fits() {
    let shards = (0..4_096).map(|shard| (shard, u64::MAX)).collect();
    let beat = Beat { version: 1, draining: false, ledger_away: None, shards };
    let answer = Answer::Welcome(hello(), beat);
    assert_eq!(decode(&encode(&answer).unwrap()), Ok(answer));
    let too_large = Answer::Unreadable("x".repeat(BYTES_MAX));
    assert!(matches!(encode(&too_large), Err(CodecError::TooLarge(_))));
    assert_eq!(Wire(Ok(too_large)).into_bytes(), b"");
}

proptest! {
    #[test]
    fn whatever_arrives_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u16>()) {
        let whole = encode(&Envelope { from: 5, body: Body::Hello(hello(), beat()) }).unwrap();
        let at = usize::from(at) % whole.len();
        prop_assert!(decode::<Envelope>(&whole[..at]).is_err());
        let mut other = whole.clone();
        other[at] ^= 0x80;
        prop_assert!(decode::<Envelope>(&other).ok() != decode::<Envelope>(&whole).ok());
        let noise = [b"hs\x01\x00", &bytes[..]].concat();
        if let Ok(answer) = decode::<Answer>(&noise) {
            prop_assert_eq!(encode(&answer).ok(), Some(noise));
        }
    }
}
