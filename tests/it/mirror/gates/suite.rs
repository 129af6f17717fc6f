//! What every mirror does with gates.

use std::sync::Arc;

use actors::gates::ports::GateMirror;
use actors::ports::MirrorAnswer;
use engine::gate::{Draw, KeptPass, MirrorOp, Snapshot};
use engine::{Epoch, PassId, Span, Turn, UserId};

use super::{AGE, Copy, NOW, admit, end, join, pass, remove, snapshot, turn};

pub async fn run(mirror: &Arc<dyn GateMirror>) {
    mirror.ping().await.unwrap();
    writes_are_applied_only_where_they_belong(mirror).await;
    only_a_take_over_or_a_rebuild_creates(mirror).await;
    rebuilds(mirror).await;
    a_rebuild_at_the_start_replaces_what_was_taken_over(mirror).await;
    a_take_over_fences_and_keeps(mirror).await;
    each_change_does_what_it_says(mirror).await;
    the_order_of_one_batch_counts(mirror).await;
    ended_passes_are_left_out(mirror).await;
    many_changes_are_one_batch(mirror).await;
    ten_thousand_are_replaced_and_read(mirror).await;
}

/// A copy at (epoch 3, op 5) with user 1 waiting: what each next write does to it.
async fn writes_are_applied_only_where_they_belong(mirror: &Arc<dyn GateMirror>) {
    let rows: [(u64, u64, u64, MirrorAnswer, &[u64]); 8] = [
        // epoch, previous, op, answer, who waits afterwards (the write lets user 2 join)
        (3, 5, 6, MirrorAnswer::Applied, &[1, 2]),
        (3, 5, 9, MirrorAnswer::Applied, &[1, 2]),
        (3, 4, 5, MirrorAnswer::Applied, &[1]), // doubled: a no-op
        (3, 2, 3, MirrorAnswer::Applied, &[1]), // late: a no-op
        (3, 6, 7, MirrorAnswer::Gap, &[1]),     // one was lost
        (3, 4, 6, MirrorAnswer::Gap, &[1]),     // straddles what is there
        (4, 5, 6, MirrorAnswer::Gap, &[1]),     // a new epoch takes over first
        (2, 5, 6, MirrorAnswer::Fenced, &[1]),
    ];
    for (epoch, previous, op, answer, after) in rows {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &snapshot(&[1], &[])).await;
        let got = copy.apply(epoch, previous, op, vec![join(2)]).await;
        assert_eq!(got, answer, "apply {epoch}.{previous}->{op}");
        assert_eq!(copy.line(5).await, after, "after {epoch}.{previous}->{op}");
    }
    for (previous, answer) in [(5, MirrorAnswer::Applied), (6, MirrorAnswer::Gap)] {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &snapshot(&[1], &[])).await;
        let got = copy.apply(3, previous, previous, Vec::new()).await;
        assert_eq!(got, answer, "does it stand at {previous}?");
    }
}

async fn only_a_take_over_or_a_rebuild_creates(mirror: &Arc<dyn GateMirror>) {
    let copy = Copy::fresh(mirror);
    assert_eq!(copy.apply(1, 0, 1, vec![join(1)]).await, MirrorAnswer::Gap);
    assert_eq!(copy.apply(1, 0, 0, Vec::new()).await, MirrorAnswer::Gap);
    assert_eq!(copy.take_over(1).await, Snapshot::default());
    assert_eq!(copy.apply(1, 0, 1, vec![join(1)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.line(2).await, [1]);
    let copy = Copy::fresh(mirror);
    assert_eq!(copy.rebuild(1, 1, &snapshot(&[], &[])).await, MirrorAnswer::Applied);
    assert_eq!(copy.apply(1, 1, 2, vec![join(2)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.line(2).await, [2]);
}

/// A rebuild replaces, is idempotent, and neither a late nor a foreign one undoes what came after.
async fn rebuilds(mirror: &Arc<dyn GateMirror>) {
    let rows: [(u64, u64, MirrorAnswer, bool); 5] = [
        (3, 6, MirrorAnswer::Applied, true),
        (3, 5, MirrorAnswer::Applied, false), // doubled: what is at that op is there
        (4, 1, MirrorAnswer::Applied, true),
        (3, 4, MirrorAnswer::Applied, false),
        (2, 8, MirrorAnswer::Fenced, false),
    ];
    let before = snapshot(&[1, 2], &[3, 4]);
    let frozen = Draw::Frozen { first: Turn(105), upto: Turn(109) };
    for after in [Snapshot { draw: frozen, ..snapshot(&[5, 8], &[1]) }, Snapshot::default()] {
        for (epoch, op, answer, replaced) in rows {
            let copy = Copy::fresh(mirror);
            copy.rebuild(3, 5, &before).await;
            assert_eq!(copy.rebuild(epoch, op, &after).await, answer, "rebuild {epoch}.{op}");
            let expected = if replaced { &after } else { &before };
            assert_eq!(copy.take_over(5).await, *expected, "after {epoch}.{op}");
        }
    }
}

/// Whoever takes over a line and makes something else of it at once tells that from the start, with nothing before.
async fn a_rebuild_at_the_start_replaces_what_was_taken_over(mirror: &Arc<dyn GateMirror>) {
    let (before, after) = (snapshot(&[1, 2], &[3, 4]), snapshot(&[5, 8], &[1]));
    for after in [after, Snapshot::default()] {
        let copy = Copy::fresh(mirror);
        copy.rebuild(3, 5, &before).await;
        assert_eq!(copy.take_over(4).await, before);
        // Told twice, it is there as well.
        for _ in 0..2 {
            assert_eq!(copy.rebuild(4, 0, &after).await, MirrorAnswer::Applied);
        }
        assert_eq!(copy.take_over(4).await, after);
        assert_eq!(copy.rebuild(4, 0, &after).await, MirrorAnswer::Applied);
        assert_eq!(copy.apply(4, 0, 1, vec![join(20)]).await, MirrorAnswer::Applied);
        // Late: it undoes nothing.
        assert_eq!(copy.rebuild(4, 0, &before).await, MirrorAnswer::Applied);
        let mut line: Vec<u64> = after.waiting.iter().map(|(_, user)| user.0).collect();
        line.push(20);
        assert_eq!(copy.line(5).await, line);
    }
}

async fn a_take_over_fences_and_keeps(mirror: &Arc<dyn GateMirror>) {
    let copy = Copy::fresh(mirror);
    let kept = snapshot(&[1, 2], &[3]);
    copy.rebuild(3, 5, &kept).await;
    assert_eq!(copy.take_over(4).await, kept);
    // A dead owner's late batch and rebuild.
    assert_eq!(copy.apply(3, 5, 6, vec![join(8)]).await, MirrorAnswer::Fenced);
    assert_eq!(copy.rebuild(3, 6, &Snapshot::default()).await, MirrorAnswer::Fenced);
    assert!(mirror.take_over(copy.concert, Epoch(3), NOW).await.is_err());
    assert_eq!(copy.apply(4, 0, 1, vec![join(9)]).await, MirrorAnswer::Applied);
    // Whoever takes over again in the same epoch begins at 0 as well, and is not told that it was there already.
    assert_eq!(copy.line(4).await, [1, 2, 9]);
    assert_eq!(copy.apply(4, 0, 1, vec![join(10)]).await, MirrorAnswer::Applied);
    assert_eq!(copy.line(5).await, [1, 2, 9, 10]);
}

/// One batch after the other, and each a second time: nothing changes then.
async fn each_change_does_what_it_says(mirror: &Arc<dyn GateMirror>) {
    let frozen = Draw::Frozen { first: Turn(101), upto: Turn(104) };
    // As a number with a fraction it would be the same.
    let other = MirrorOp::End { user: UserId(2), pass: pass(3).id };
    let elsewhere = MirrorOp::Remove { user: UserId(3), turn: Turn(7) };
    let with = |draw, next: u32, kept: Snapshot| Snapshot { draw, next: Turn(next), ..kept };
    let rows = [
        ("joins", vec![join(1), join(2), join(3)], snapshot(&[1, 2, 3], &[])),
        ("a removal", vec![remove(1)], snapshot(&[2, 3], &[])),
        ("removals of nobody", vec![remove(1), remove(9), elsewhere], snapshot(&[2, 3], &[])),
        ("an admission", vec![admit(2)], snapshot(&[3], &[2])),
        ("an end of another pass", vec![other], snapshot(&[3], &[2])),
        ("one who never waited", vec![admit(6)], with(Draw::Due, 107, snapshot(&[3], &[2, 6]))),
        ("an end", vec![end(2)], with(Draw::Due, 107, snapshot(&[3], &[6]))),
        ("a draw", vec![MirrorOp::Draw(frozen)], with(frozen, 107, snapshot(&[3], &[6]))),
        ("and done", vec![MirrorOp::Draw(Draw::Done)], with(Draw::Done, 107, snapshot(&[3], &[6]))),
    ];
    let copy = Copy::fresh(mirror);
    copy.take_over(1).await;
    let mut epoch = 1;
    for (what, changes, after) in rows {
        for (previous, op) in [(0, 1), (1, 2)] {
            assert_eq!(
                copy.apply(epoch, previous, op, changes.clone()).await,
                MirrorAnswer::Applied,
                "{what}"
            );
        }
        epoch += 1;
        assert_eq!(copy.take_over(epoch).await, after, "{what}");
    }
}

/// Of everything that happens to a user within one batch, the last counts.
async fn the_order_of_one_batch_counts(mirror: &Arc<dyn GateMirror>) {
    let again = MirrorOp::Join { user: UserId(1), turn: Turn(300) };
    let anew = KeptPass { id: PassId(77), ..pass(1) };
    let anew_op = MirrorOp::Admit { user: anew.user, turn: anew.turn, pass: anew.id, ends_at: anew.ends_at };
    let rejoined = Snapshot { next: Turn(301), waiting: vec![(Turn(300), UserId(1))], ..Snapshot::default() };
    let left = |waiting: &[u64], passes: &[u64]| Snapshot { next: turn(2), ..snapshot(waiting, passes) };
    let rows = [
        (vec![join(1), remove(1)], left(&[], &[])),
        (vec![join(1), remove(1), again], rejoined.clone()),
        (vec![join(1), remove(1), again, remove(1)], rejoined),
        (vec![join(1), admit(1)], left(&[], &[1])),
        (vec![join(1), admit(1), end(1)], left(&[], &[])),
        (vec![join(1), admit(1), end(1), anew_op], Snapshot { passes: vec![anew], ..left(&[], &[]) }),
        (vec![join(1), admit(1), end(1), anew_op, end(1)], Snapshot { passes: vec![anew], ..left(&[], &[]) }),
        (vec![MirrorOp::Draw(Draw::Done), MirrorOp::Draw(Draw::Due), join(1)], left(&[1], &[])),
    ];
    for before in [Snapshot::default(), snapshot(&[1], &[]), snapshot(&[], &[1])] {
        for (changes, after) in &rows {
            let copy = Copy::fresh(mirror);
            copy.rebuild(1, 1, &before).await;
            // The pass that user 1 has already stays where the batch says nothing of it.
            let mut after = after.clone();
            if !changes.iter().any(|change| matches!(change, MirrorOp::Admit { .. })) {
                after.passes.clone_from(&before.passes);
            }
            copy.apply(1, 1, 2, changes.clone()).await;
            let got = copy.take_over(2).await;
            assert_eq!(got, after, "{before:?}, then {changes:?}");
        }
    }
}

async fn ended_passes_are_left_out(mirror: &Arc<dyn GateMirror>) {
    let copy = Copy::fresh(mirror);
    let short = KeptPass { ends_at: NOW + Span::from_secs(60), ..pass(2) };
    let kept = Snapshot { passes: vec![pass(1), short], ..snapshot(&[], &[1, 2]) };
    copy.rebuild(1, 1, &kept).await;
    let at = |epoch, now| mirror.take_over(copy.concert, Epoch(epoch), now);
    assert_eq!(at(2, short.ends_at - Span(1)).await.unwrap().passes, kept.passes);
    assert_eq!(at(3, short.ends_at).await.unwrap().passes, [pass(1)]);
    assert_eq!(at(4, NOW + AGE).await.unwrap().passes, []);
}

/// Far more than a script may hand to one command.
async fn many_changes_are_one_batch(mirror: &Arc<dyn GateMirror>) {
    let copy = Copy::fresh(mirror);
    copy.take_over(1).await;
    let all: Vec<u64> = (0..20_000).collect();
    let (first, second) = all.split_at(10_000);
    copy.apply(1, 0, 20_000, all.iter().copied().map(join).collect()).await;
    let changes = first.iter().copied().map(admit).chain(second.iter().copied().map(remove));
    assert_eq!(copy.apply(1, 20_000, 40_000, changes.collect()).await, MirrorAnswer::Applied);
    let passed = |passes| Snapshot { next: Turn(20_100), ..snapshot(&[], passes) };
    assert_eq!(copy.take_over(2).await, passed(first));
    assert_eq!(
        copy.apply(2, 0, 1, first.iter().skip(1).copied().map(end).collect()).await,
        MirrorAnswer::Applied
    );
    assert_eq!(copy.take_over(3).await, passed(&first[..1]));
}

async fn ten_thousand_are_replaced_and_read(mirror: &Arc<dyn GateMirror>) {
    let copy = Copy::fresh(mirror);
    let all: Vec<u64> = (1..13_000).collect();
    for (op, (waiting, passes)) in (1..).zip([all.split_at(10_000), all.split_at(1_000), all.split_at(9_999)])
    {
        let kept = snapshot(waiting, passes);
        assert_eq!(copy.rebuild(op, op, &kept).await, MirrorAnswer::Applied);
        assert_eq!(copy.take_over(op).await, kept);
    }
}
