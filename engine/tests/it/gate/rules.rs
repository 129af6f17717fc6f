//! Every rule of the gate, a table each.

use std::collections::BTreeMap;

use engine::gate::{
    Answer, DrawFault, Effect, Effects, Gate, Input, Policy, Settings, Snapshot, Standing, State, Tick,
    Viewer, block_of,
};
use engine::limits::{GATE_UNMIRRORED, TURNS_PER_BLOCK};
use engine::sim::prng::mix;
use engine::{ConcertId, Epoch, OpNo, ReplyTo, Time, Turn, UserId};

use super::script::check;

#[test]
fn people_are_admitted_in_turn_at_the_rate() {
    check(
        "
        policy paused rate=2     => set
        u1 join                  => WAITING 0
        u2 join                  => WAITING 1
        u3 join                  => WAITING 2
        u2 join                  => WAITING 1
        u3 status                => WAITING 2
        u4 status                => NONE
        policy open rate=2       => set; u1 in until 301
        // Not both at once.
        +0.05                    => u2 in until 301.05
        u3 status                => WAITING 0
        u1 join                  => ACTIVE until 301
        +0.9                     =>
        +0.05                    => u3 in until 302
        u4 join                  => WAITING 0
        +0.05                    => u4 in until 302.05
        u5 join                  => WAITING 0
        +0.94                    =>
        +0.01                    => u5 in until 303
        ",
    );
}

#[test]
fn the_ceiling_frees_a_place_at_once() {
    check(
        "
        policy open ceiling=2    => set
        u1 join                  => WAITING 0; u1 in until 301
        u2 join                  => WAITING 0; u2 in until 301
        u3 join                  => WAITING 0
        u4 join                  => WAITING 1
        u5 join                  => WAITING 2
        u1 buy                   => u1 out GIVEN_BACK; u3 in until 301
        u1 status                => NONE
        u2 leave                 => u2 out GIVEN_BACK; left Sale; u4 in until 301
        u9 leave                 => left Nothing
        u9 buy                   =>
        // Both run out together, and the one who waits is away by then.
        +300                     => u3 out EXPIRED; u4 out EXPIRED
        u5 beat                  => u5 in until 601
        u4 join                  => WAITING 0; u4 in until 601
        ",
    );
}

#[test]
fn a_pass_lives_while_it_is_used_for_half_an_hour_at_most() {
    check(
        "
        policy open ceiling=1    => set
        u1 join                  => WAITING 0; u1 in until 301
        +200                     =>
        u1 use                   =>
        u1 status                => ACTIVE until 501
        +299                     =>
        u1 use                   =>
        +299                     =>
        u1 use                   =>
        +299                     =>
        u1 use                   =>
        +299                     =>
        u1 use                   =>
        +299                     =>
        u1 use                   =>
        u1 status                => ACTIVE until 1801
        +104                     =>
        +1                       => u1 out EXPIRED
        u1 use                   =>
        u1 status                => NONE
        ",
    );
}

#[test]
fn ghosts_are_passed_over_counted_and_removed() {
    check(
        "
        policy paused rate=1     => set
        u1 join                  => WAITING 0
        u2 join                  => WAITING 1
        u3 join                  => WAITING 2
        +59                      =>
        u3 beat                  =>
        +1                       =>
        policy open rate=1       => set; u3 in until 361
        u4 join                  => WAITING 2
        u5 join                  => WAITING 3
        +1                       => u4 in until 362
        // Back: next, whoever else waits.
        u2 status                => WAITING 1
        u6 join                  => WAITING 3
        +1                       => u2 in until 363
        u6 status                => WAITING 2
        +1                       => u5 in until 364
        +1                       => u6 in until 365
        // Ten minutes after it was last heard of.
        u7 join                  => WAITING 1
        policy paused rate=1     => set
        +294                     =>
        u7 beat                  =>
        +242                     => u3 out EXPIRED; u4 out EXPIRED; u2 out EXPIRED; u5 out EXPIRED; u6 out EXPIRED; u1 removed
        u1 status                => NONE
        u7 status                => WAITING 0
        ",
    );
}

#[test]
fn an_answer_and_an_admission_wait_for_the_mirror() {
    check(
        "
        policy open rate=1       => set
        hold                     =>
        u1 join                  =>
        u1 status                =>
        u2 join                  =>
        +5                       =>
        // Nobody else, because the one admission may still be told.
        ack                      => WAITING 0; u1 in until 306; ACTIVE until 306; WAITING 0
        +0.5                     =>
        +0.5                     => u2 in until 307
        hold                     =>
        u3 join                  =>
        u3 leave                 => u3 removed
        u3 join                  =>
        // Both joins are told the turn that there is, once that is known.
        ack                      => left Line; WAITING 0; WAITING 0
        +1                       => u3 in until 308
        ",
    );
}

#[test]
fn without_the_mirror_it_goes_on_and_says_so() {
    check(
        "
        policy open rate=1       => set
        hold                     =>
        u1 join                  =>
        u2 join                  =>
        away                     => WAITING 0!; u1 in until 301!; WAITING 0!
        u3 join                  => WAITING 1!
        u1 status                => ACTIVE until 301!
        +1                       => u2 in until 302!
        back                     =>
        u3 status                => WAITING 0
        u4 join                  => WAITING 1
        ",
    );
}

#[test]
fn after_a_crash_everybody_keeps_their_turn_and_the_first_second_is_quiet() {
    check(
        "
        policy open rate=2       => set
        u1 join                  => WAITING 0; u1 in until 301
        u2 join                  => WAITING 0
        +0.05                    => u2 in until 301.05
        u3 join                  => WAITING 0
        u4 join                  => WAITING 1
        hold                     =>
        // Both are forgotten: nobody was told.
        u3 leave                 => u3 removed
        u5 join                  =>
        crash                    =>
        u4 status                => WAITING 1
        u3 status                => WAITING 0
        u5 status                => NONE
        u1 join                  => ACTIVE until 301.05
        +0.95                    =>
        +0.05                    => u3 in until 302.05
        +0.05                    => u4 in until 302.1
        u6 join                  => WAITING 0
        +99.9                    => u6 in until 303.05
        crash                    =>
        // Idle times begin anew.
        u6 status                => ACTIVE until 402
        ",
    );
}

#[test]
fn a_presale_is_shuffled_once_and_later_ones_queue_behind() {
    check(
        "
        policy open rate=1 mode=presale-draw => no OPENING_MISSING
        policy open rate=1 mode=presale-draw at=1000 => set
        u1 join                  => WAITING ?
        u2 join                  => WAITING ?
        u3 join                  => WAITING ?
        draw u3 u1 u2            => no NotFrozen
        // Nobody is removed before the draw, however long away.
        +998                     =>
        +1                       => frozen 3
        u4 join                  => WAITING ?
        u1 leave                 => u1 removed; left Line
        policy open rate=1 mode=presale-draw at=2000 => no DRAW_UNDER_WAY
        policy open rate=1       => no DRAW_UNDER_WAY
        draw u3 u1 u3 u2         => no Twice(Turn(2))
        draw u3 u1 u2 u9         => no Unknown(Turn(99))
        crash                    => frozen 2
        draw u3 u2               => drawn; taken
        draw u3 u2               => no NotFrozen
        u2 status                => WAITING 1
        u4 status                => WAITING 2
        u5 join                  => WAITING 3
        +1                       => u3 in until 1301
        +1                       => u2 in until 1302
        +1                       => u4 in until 1303
        ",
    );
}

/// The order of a sale that was closed meanwhile comes when the entrants of another are settled.
#[test]
fn an_order_is_for_its_own_draw() {
    let presale = |state, opening| Policy {
        state,
        mode: engine::gate::Mode::PresaleDraw,
        opens_at: Some(Time(opening)),
        ..OPEN
    };
    let mut gate = gate(presale(State::Open, 5));
    let mut step = |now: i64, input: Input| {
        let mut effects = Effects::new();
        gate.step(Time(now), input, &mut effects);
        effects
    };
    let set = |policy| Input::SetPolicy { policy, to: ReplyTo(1) };
    step(0, Input::MirrorAway);
    assert!(step(5, Input::Tick).contains(&Effect::Frozen { first: Turn(0), upto: Turn(0) }));
    step(6, set(presale(State::Closed, 9)));
    step(6, set(presale(State::Open, 9)));
    step(7, Input::Join { user: UserId(1), to: ReplyTo(1) });
    assert!(step(9, Input::Tick).contains(&Effect::Frozen { first: Turn(0), upto: Turn(1) }));
    let old = Input::Drawn { first: Turn(0), upto: Turn(0), order: Box::default(), to: ReplyTo(2) };
    let answer = Answer::DrawRefused(DrawFault::NotFrozen);
    assert!(step(9, old).contains(&Effect::Reply { to: ReplyTo(2), answer, durable: false }));
}

#[test]
fn ranks_that_were_told_are_not_drawn_away() {
    check(
        "
        policy paused rate=1     => set
        u1 join                  => WAITING 0
        policy paused rate=1 mode=presale-draw at=50 => no RANKS_TOLD
        u1 leave                 => u1 removed; left Line
        policy paused rate=1 mode=presale-draw at=50 => set
        u1 join                  => WAITING ?
        u2 join                  => WAITING ?
        // Back to fifo: as they came.
        policy paused rate=1     => set
        u2 status                => WAITING 1
        ",
    );
}

#[test]
fn sold_out_rejects_everybody_until_it_opens_again() {
    check(
        "
        policy open ceiling=1    => set
        u1 join                  => WAITING 0; u1 in until 301
        u2 join                  => WAITING 0
        policy closed            => rejected; set
        policy closed            => same
        u2 status                => REJECTED
        u3 join                  => REJECTED
        u1 status                => ACTIVE until 301
        crash                    =>
        u2 status                => REJECTED
        policy open ceiling=1    => set
        u2 status                => NONE
        u2 join                  => WAITING 0
        ",
    );
}

#[test]
fn bad_policies_are_named() {
    check(
        "
        policy off               => same
        u1 join                  => FREE
        policy open              => no NO_BOUND
        policy open rate=0       => no RATE_OUT_OF_BOUNDS
        policy open rate=1000000000 => no RATE_OUT_OF_BOUNDS
        policy open ceiling=0    => no CEILING_OUT_OF_BOUNDS
        policy open ceiling=4000000000 => no CEILING_OUT_OF_BOUNDS
        policy paused rate=5     => set
        policy paused rate=5     => same
        ",
    );
}

fn gate(policy: Policy) -> Gate {
    let mut gate = Gate::new(ConcertId(1), Epoch(1), Settings::default());
    gate.restore(Time(0), policy, &Snapshot::default());
    gate
}

const OPEN: Policy = Policy {
    state: State::Open,
    mode: engine::gate::Mode::Fifo,
    per_second: Some(1),
    max_active: None,
    opens_at: None,
};

#[test]
fn a_silent_mirror_costs_no_memory_without_end() {
    let mut gate = gate(Policy { state: State::Paused, ..OPEN });
    let mut effects = Effects::new();
    let mut refused = 0u64;
    for user in 1..=2 * GATE_UNMIRRORED as u64 {
        gate.step(Time(user as i64), Input::Join { user: UserId(user), to: ReplyTo(user) }, &mut effects);
        let overloaded = |effect: &Effect| matches!(effect, Effect::Reply { answer: Answer::Overloaded, .. });
        refused += effects.drain(..).filter(overloaded).count() as u64;
    }
    let joined = gate.load().waiting as u64;
    assert_eq!((joined, refused), (GATE_UNMIRRORED as u64, GATE_UNMIRRORED as u64));
    // Absent waiters are let be as well, and the gate does not wake for them.
    gate.step(Time(3_600_000_000), Input::Tick, &mut effects);
    assert_eq!((gate.load().waiting as u64, gate.next_wake()), (joined, None));
    // When it may, it removes them a few blocks at a time.
    let (now, mut steps) = (Time(3_600_000_000), 1);
    gate.step(now, Input::Mirrored { upto: OpNo(joined) }, &mut effects);
    while gate.next_wake().is_some_and(|wake| wake <= now) {
        steps += 1;
        gate.step(now, Input::Tick, &mut effects);
    }
    assert_eq!(gate.load().waiting, 0);
    assert!(steps > 1 && steps < 20, "{steps} steps");
}

/// Over several blocks that empty from the front and in between, ranks are those of a sorted set, at the owner and at
/// its viewers.
#[test]
fn ranks_over_many_blocks_are_exact() {
    let mut gate = gate(Policy { state: State::Paused, ..OPEN });
    let (mut effects, mut newest) = (Effects::new(), OpNo(0));
    let mut step = |gate: &mut Gate, input: Input| {
        gate.step(Time(1), input, &mut effects);
        let op = |effect: &Effect| match effect {
            Effect::Mirror { no, .. } => Some(*no),
            _ => None,
        };
        newest = effects.iter().rev().find_map(op).unwrap_or(newest);
        gate.step(Time(1), Input::Mirrored { upto: newest }, &mut effects);
        effects.clear();
    };
    let users = 5 * u64::from(TURNS_PER_BLOCK) / 2;
    let mut waiting: BTreeMap<u64, Turn> = (0..users).map(|user| (user, Turn(user as u32))).collect();
    for user in 0..users {
        step(&mut gate, Input::Join { user: UserId(user + 1), to: ReplyTo(1) });
    }
    let (watched, view) = (users - 1, gate.view());
    let turn = waiting[&watched];
    let mut viewer = Viewer::new(turn, &view, gate.bitmap(block_of(turn)));
    let mut tick = Tick::default();
    for round in 0..users {
        let draw = mix(round) % users;
        // The front goes first, the rest at random.
        let user = if round < 3_000 { round } else { draw };
        if user != watched && waiting.remove(&user).is_some() {
            step(&mut gate, Input::Leave { user: UserId(user + 1), to: ReplyTo(1) });
        }
        if round % 50 == 0 {
            if gate.cut(&mut tick) {
                let own = tick.counts.iter().any(|count| count.block() == block_of(turn));
                viewer.apply(&tick, own.then(|| gate.bitmap(block_of(turn))).as_ref()).unwrap();
            }
            let (probe, _) = waiting.range(draw..).next().unwrap_or((&watched, &turn));
            for user in [*probe, watched] {
                let expected = waiting.range(..user).count() as u32;
                let standing = gate.standing(UserId(user + 1));
                assert!(matches!(standing, Standing::Waiting { ahead, .. } if ahead == Some(expected)));
            }
            assert_eq!(viewer.ahead() as usize, waiting.len() - 1);
            let bytes = 4 * gate.view().counts.len();
            assert!(bytes <= 12, "a block that emptied is not told any more");
        }
    }
}

#[test]
fn a_gate_that_hears_nonsense_stops() {
    let mut gate = gate(OPEN);
    let mut effects = Effects::new();
    gate.step(Time(0), Input::Mirrored { upto: OpNo(1) }, &mut effects);
    assert!(gate.is_halted() && matches!(effects[..], [Effect::Halt(_)]));
    effects.clear();
    gate.step(Time(9), Input::Join { user: UserId(1), to: ReplyTo(1) }, &mut effects);
    assert!(effects.is_empty() && gate.next_wake().is_none());
}

#[test]
fn a_snapshot_that_contradicts_itself_loses_only_that() {
    let mut gate = Gate::new(ConcertId(1), Epoch(1), Settings::default());
    let waiting = [(5, 1), (5, 2), (4, 3), (9, 1), (TURNS_PER_BLOCK, 4)];
    let waiting = waiting.map(|(turn, user)| (Turn(turn), UserId(user))).to_vec();
    let snapshot = Snapshot { waiting, ..Snapshot::default() };
    assert_eq!(gate.restore(Time(0), OPEN, &snapshot), 3);
    assert_eq!(gate.snapshot().waiting, [(Turn(5), UserId(1)), (Turn(TURNS_PER_BLOCK), UserId(4))]);
    let mut effects = Effects::new();
    gate.step(Time(0), Input::Tick, &mut effects);
    assert_eq!(gate.load().unmirrored, 1, "the mirror is told what is kept");
    assert_eq!(gate.snapshot().next, Turn(TURNS_PER_BLOCK + 1));
}
