//! Every rule of the shard, a table each.

use crate::script::check;

#[test]
fn select_is_all_or_nothing_and_renews() {
    check(
        "
        all u1 select 3 4        => m+3; 3:SELECTING; m+4; 4:SELECTING; ok selected 3 4 until 30
        u2 select 4 5            => no SEAT_TAKEN 4=SELECTING
        u2 select 5              => m+5; 5:SELECTING; ok selected 5 until 30
        +10                      =>
        u1 select 3              => m+3; ok renewed 3 until 40
        u1 select 3 4 2          => m+3; m+4; m+2; 2:SELECTING; ok selected 3 4 2 until 40
        +29                      => m-5; 5:AVAILABLE
        +2                       => m-3; 3:AVAILABLE; m-4; 4:AVAILABLE; m-2; 2:AVAILABLE
        ",
    );
}

#[test]
fn a_selection_is_what_is_selected_now() {
    check(
        "
        u1 mine                  => nothing
        u1 select 4 3            => ok selected 4 3 until 30
        u2 select 5              => ok selected 5 until 30
        +10                      =>
        u1 select 0              => ok selected 0 until 40
        u1 mine                  => 0 3 4 until 30
        u1 hold r1 3 key=a       => write HELD r1
        u1 mine                  => 0 4 until 30
        ack                      => #7 ok HOLD r1 v1 until 310 amount 100 created
        +20                      =>
        u1 mine                  => 0 until 40
        u1 release 0             => ok released 0
        u1 mine                  => nothing
        ",
    );
}

/// A user who renews for as long as one may; it is 300 s then.
const KEPT_TO_MAX_AGE: &str = "
        u1 select 0              => ok selected 0 until 30
        +29                      =>
        u1 select 0              => ok renewed 0 until 59
        +29                      =>
        u1 select 0              => ok renewed 0 until 88
        +29                      =>
        u1 select 0              => ok renewed 0 until 117
        +29                      =>
        u1 select 0              => ok renewed 0 until 146
        +29                      =>
        u1 select 0              => ok renewed 0 until 175
        +29                      =>
        u1 select 0              => ok renewed 0 until 204
        +29                      =>
        u1 select 0              => ok renewed 0 until 233
        +29                      =>
        u1 select 0              => ok renewed 0 until 262
        +29                      =>
        u1 select 0              => ok renewed 0 until 291
        +20                      =>
        u1 select 0              => ok renewed 0 until 300
        all +19                  => m-0; 0:AVAILABLE
";

#[test]
fn a_soft_lock_lives_no_longer_than_max_age() {
    let kept = KEPT_TO_MAX_AGE;
    check(&format!(
        "{kept}
        u1 select 0              => no SELECT_TOO_LONG
        u2 select 5              => m+5; 5:SELECTING; ok selected 5 until 330
        u1 best party=5 section=0 => no SELECT_TOO_LONG
        u1 best party=4 section=0 => m+6; 6:SELECTING; m+7; 7:SELECTING; m+8; 8:SELECTING; m+9; 9:SELECTING; ok selected 6 7 8 9 until 330
        u1 release               => m-6; 6:AVAILABLE; m-7; 7:AVAILABLE; m-8; 8:AVAILABLE; m-9; 9:AVAILABLE; ok released 6 7 8 9
        +9.999                   =>
        u1 select 0              => no SELECT_TOO_LONG
        +0.001                   =>
        u1 select 0              => m+0; 0:SELECTING; ok selected 0 until 340
        "
    ));
    check(&format!(
        "{kept}
        // somebody else had the chance
        u2 select 0              => m+0; 0:SELECTING; ok selected 0 until 330
        u2 release               => m-0; 0:AVAILABLE; ok released 0
        u1 select 0              => m+0; 0:SELECTING; ok selected 0 until 330
        "
    ));
}

#[test]
fn precedence_of_refusals() {
    check(
        "
        // 1 before all else
        u1 select option=8       => no OPTION_UNKNOWN
        u1 hold option=8 r1 0 key=k => no OPTION_UNKNOWN
        // 3 pass before 4 closed before 5 seats
        svc policy gate=1 max=1  => write POLICY_SET
        ack                      => #5 ok done
        svc close                => write OPTION_CLOSED
        ack                      => #7 ok done
        u1 select                => no PASS_REQUIRED
        u1 select pass=1         => no OPTION_CLOSED
        u1 release pass=1        => ok released
        u1 release               => no PASS_REQUIRED
        svc open                 => write OPTION_OPENED
        ack                      => #13 ok done
        // 5 seats: none, nine, one twice, outside
        u1 select pass=1         => no SEATS_INVALID
        u1 select pass=1 0 1 2 3 4 5 6 7 8 => no SEATS_INVALID
        u1 select pass=1 0 0     => no SEATS_INVALID
        u1 select pass=1 20      => no SEATS_INVALID
        u1 best pass=1 party=0   => no SEATS_INVALID
        u1 best pass=1 party=9   => no SEATS_INVALID
        u1 best pass=1 party=1 section=2 => no SEATS_INVALID
        u1 best pass=1 party=1 category=2 => no SEATS_INVALID
        // 6 limit before 8 taken
        u2 select pass=1 8       => ok selected 8 until 30
        u1 select pass=1 0 1 2 3 4 5 6 7 => ok selected 0 1 2 3 4 5 6 7 until 30
        u1 select pass=1 8       => no LIMIT_REACHED
        u1 best pass=1 party=1   => no LIMIT_REACHED
        u1 select pass=1 0       => ok renewed 0 until 30
        // 6 reservations before 9 not selected
        u1 hold pass=1 r1 0 1 key=a => write HELD r1
        ack                      => #31 ok HOLD r1 v1 until 300 amount 200 created
        u1 hold pass=1 r2 9 key=b => no LIMIT_REACHED
        u3 hold pass=1 r2 9 key=b => no NOT_SELECTED 9
        // 8 taken before 9 not selected
        u3 hold pass=1 r2 8 9 key=b => no SEAT_TAKEN 8=SELECTING
        // 2 reused key before 3 pass
        u1 hold r3 0 2 key=a     => no REQUEST_REUSED
        u1 hold r3 0 1 key=a     => ok HOLD r1 v1 until 300 amount 200 created (replay)
        u1 hold r3 0 2 key=c     => no PASS_REQUIRED
        ",
    );
}

#[test]
fn release_gives_back_what_is_mine() {
    check(
        "
        all u1 select 0 1 2      => m+0; 0:SELECTING; m+1; 1:SELECTING; m+2; 2:SELECTING; ok selected 0 1 2 until 30
        u2 select 3              => m+3; 3:SELECTING; ok selected 3 until 30
        u1 release 0 3           => no NOT_SELECTED 3
        u1 release 0             => m-0; 0:AVAILABLE; ok released 0
        u1 release 0             => no NOT_SELECTED 0
        u1 release 21            => no SEATS_INVALID
        u1 release               => m-1; 1:AVAILABLE; m-2; 2:AVAILABLE; ok released 1 2
        u1 release               => ok released
        ",
    );
}

#[test]
fn select_best_keeps_parties_together() {
    check(
        "
        u1 best party=2          => ok selected 0 1 until 30
        u2 best party=2          => ok selected 5 6 until 30
        u3 best party=2 section=1 => ok selected 10 11 until 30
        u4 best party=5 category=1 => ok selected 15 16 17 18 19 until 30
        u5 best party=5          => no NO_SEATS_TOGETHER 3
        u6 best party=5          => no NO_SEATS_TOGETHER 3
        u6 best party=6          => no NO_SEATS_TOGETHER 3
        u6 best party=1          => ok selected 2 until 30
        ",
    );
}

#[test]
fn hold_waits_for_the_ledger() {
    check(
        "
        all u1 select 0 12       => m+0; 0:SELECTING; m+12; 12:SELECTING; ok selected 0 12 until 30
        u1 hold r1 12 0 key=a    => write HELD r1
        // the TTL stops, nobody else gets the seats, viewers still see SELECTING
        +40                      =>
        u2 select 0              => no SEAT_TAKEN 0=SELECTING
        u1 select 0              => no SEAT_TAKEN 0=SELECTING
        u1 confirm r1 key=b      =>
        ack 1                    => m-0; 0:HOLD; m-12; 12:HOLD; #2 ok HOLD r1 v1 until 300 amount 160 created; write CONFIRMED r1
        ack                      => 0:CONFIRMED; 12:CONFIRMED; #7 ok CONFIRMED r1 v2 until never amount 160
        u2 select 0              => no SEAT_TAKEN 0=CONFIRMED
        ",
    );
}

#[test]
fn the_way_of_a_reservation() {
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => #2 ok HOLD r1 v1 until 300 amount 100 created
        u2 pay r1 key=b          => no RESERVATION_UNKNOWN
        u1 pay r9 key=b          => no RESERVATION_UNKNOWN
        u1 refund r1 key=b       => no RESERVATION_STATE HOLD
        u1 unblock r1 key=b      => no RESERVATION_STATE HOLD
        +100                     =>
        u1 pay r1 key=b          => write PAYING_STARTED r1
        ack                      => #9 ok PAYING r1 v2 until 400 amount 100
        u1 pay r1 key=c          => ok PAYING r1 v2 until 400 amount 100
        svc confirm r1 key=d     => write CONFIRMED r1
        ack                      => #12 ok CONFIRMED r1 v3 until never amount 100
        svc confirm r1 key=e     => ok CONFIRMED r1 v3 until never amount 100
        u1 pay r1 key=f          => no RESERVATION_STATE CONFIRMED
        all u1 cancel r1 key=g   => write CANCELLED r1
        ack                      => 0:AVAILABLE; #16 ok CANCELLED r1 v4 until never amount 100
        u1 cancel r1 key=h       => ok CANCELLED r1 v4 until never amount 100
        u1 confirm r1 key=h      => no RESERVATION_STATE CANCELLED
        svc refund r1 key=i      => write REFUNDED r1
        ack                      => #20 ok REFUNDED r1 v5 until never amount 100
        svc refund r1 key=j      => ok REFUNDED r1 v5 until never amount 100
        u1 cancel r1 key=k       => no RESERVATION_STATE REFUNDED
        ",
    );
}

#[test]
fn a_hold_cancelled_unpaid_has_nothing_to_refund() {
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => #2 ok HOLD r1 v1 until 300 amount 100 created
        u1 cancel r1 key=b       => write CANCELLED r1
        ack                      => #4 ok CANCELLED r1 v2 until never amount 100
        svc refund r1 key=c      => no RESERVATION_STATE CANCELLED
        ",
    );
}

#[test]
fn expiry_is_durable_before_the_seat_is_free() {
    check(
        "
        all u1 select 0          => m+0; 0:SELECTING; ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => m-0; 0:HOLD; #2 ok HOLD r1 v1 until 300 amount 100 created
        +299                     =>
        +1                       => write EXPIRED r1
        u2 select 0              => no SEAT_TAKEN 0=HOLD
        u1 confirm r1 key=b      =>
        ack                      => 0:AVAILABLE; #7 no HOLD_EXPIRED
        u2 select 0              => m+0; 0:SELECTING; ok selected 0 until 330
        u1 confirm r1 key=b      => no HOLD_EXPIRED
        u1 pay r1 key=c          => no HOLD_EXPIRED
        u1 cancel r1 key=d       => no HOLD_EXPIRED
        svc refund r1 key=e      => no RESERVATION_STATE EXPIRED
        ",
    );
}

#[test]
fn paying_prolongs_and_expires() {
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => #2 ok HOLD r1 v1 until 300 amount 100 created
        +200                     =>
        u1 pay r1 key=b          => write PAYING_STARTED r1
        ack                      => #5 ok PAYING r1 v2 until 500 amount 100
        +299                     =>
        +1                       => write EXPIRED r1
        ack                      =>
        ",
    );
}

#[test]
fn order_at_the_owner_decides_between_confirm_and_expiry() {
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => #2 ok HOLD r1 v1 until 300 amount 100 created
        +200                     =>
        u1 pay r1 key=b          => write PAYING_STARTED r1
        // arrives in time, behind an entry that takes long; the deadline passes meanwhile
        svc confirm r1 key=c     =>
        +400                     =>
        ack 1                    => #5 ok PAYING r1 v2 until 500 amount 100; write CONFIRMED r1
        ack                      => #7 ok CONFIRMED r1 v3 until never amount 100
        ",
    );
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        +10                      =>
        // arrives before the deadline, waits with the hold itself
        svc confirm r1 key=c     =>
        +300                     =>
        // arrives after it
        u1 cancel r1 key=d       =>
        ack 1                    => #2 ok HOLD r1 v1 until 300 amount 100 created; write CONFIRMED r1
        ack                      => #5 ok CONFIRMED r1 v2 until never amount 100; write CANCELLED r1
        ",
    );
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        +310                     =>
        // too late, though the ledger has not even taken the hold
        svc confirm r1 key=c     =>
        ack 1                    => #2 ok HOLD r1 v1 until 300 amount 100 created; write EXPIRED r1
        ack                      => #5 no HOLD_EXPIRED
        ",
    );
}

#[test]
fn a_key_gets_its_first_answer() {
    check(
        "
        u1 select 0 1            => ok selected 0 1 until 30
        u1 hold r1 0 1 key=a     => write HELD r1
        u1 hold r2 1 0 key=a     =>
        u1 hold r2 0 key=a       => no REQUEST_REUSED
        u2 hold r2 0 key=a       => no SEAT_TAKEN 0=SELECTING
        ack                      => #2 ok HOLD r1 v1 until 300 amount 200 created; #3 ok HOLD r1 v1 until 300 amount 200 created (replay)
        u1 hold r3 0 1 key=a     => ok HOLD r1 v1 until 300 amount 200 created (replay)
        svc confirm r1 key=b     => write CONFIRMED r1
        ack                      => #8 ok CONFIRMED r1 v2 until never amount 200
        u1 hold r4 0 1 key=a     => ok HOLD r1 v1 until 300 amount 200 created (replay)
        svc confirm r1 key=b     => ok CONFIRMED r1 v2 until never amount 200 (replay)
        svc cancel r1 key=b      => no REQUEST_REUSED
        restart                  => same
        u1 hold r4 0 1 key=a     => ok HOLD r1 v1 until 300 amount 200 created (replay)
        +899                     =>
        u1 hold r4 0 1 key=a     => ok HOLD r1 v1 until 300 amount 200 created (replay)
        +1                       =>
        u1 hold r4 0 1 key=a     => no SEAT_TAKEN 0=CONFIRMED 1=CONFIRMED
        ",
    );
}

#[test]
fn blocks_take_free_seats_only() {
    check(
        "
        all u1 select 0          => m+0; 0:SELECTING; ok selected 0 until 30
        svc block r1 0 1 key=a   => no SEAT_TAKEN 0=SELECTING
        svc block r1 1 2 key=a   => write BLOCKED r1
        u1 select 1              => no SEAT_TAKEN 1=SELECTING
        ack                      => 1:CONFIRMED; 2:CONFIRMED; #3 ok CONFIRMED r1 v1 until never amount 0 created
        u1 select 1              => no SEAT_TAKEN 1=CONFIRMED
        svc confirm r1 key=b     => no RESERVATION_STATE CONFIRMED
        svc cancel r1 key=b      => no RESERVATION_STATE CONFIRMED
        u1 unblock r1 key=b      => no RESERVATION_UNKNOWN
        svc unblock r1 key=b     => write UNBLOCKED r1
        ack                      => 1:AVAILABLE; 2:AVAILABLE; #10 ok CANCELLED r1 v2 until never amount 0
        svc unblock r1 key=c     => ok CANCELLED r1 v2 until never amount 0
        u1 block r2 5 key=d      => no RESERVATION_UNKNOWN
        ",
    );
}

#[test]
fn closing_frees_soft_locks_and_keeps_reservations() {
    check(
        "
        all u1 select 0 1 2      => m+0; 0:SELECTING; m+1; 1:SELECTING; m+2; 2:SELECTING; ok selected 0 1 2 until 30
        u1 hold r1 0 key=a       => write HELD r1
        svc close key=b          => write OPTION_CLOSED
        u2 select 5              => m+5; 5:SELECTING; ok selected 5 until 30
        svc open key=c           =>
        ack 2                    => m-0; 0:HOLD; #2 ok HOLD r1 v1 until 300 amount 100 created; m-1; 1:AVAILABLE; m-2; 2:AVAILABLE; m-5; 5:AVAILABLE; #3 ok done; write OPTION_OPENED
        u2 select 6              => no OPTION_CLOSED
        ack                      => #5 ok done
        svc confirm r1 key=d     => write CONFIRMED r1
        u2 select 6              => m+6; 6:SELECTING; ok selected 6 until 30
        svc open key=e           => ok done
        ",
    );
}

#[test]
fn a_policy_bounds_reservations() {
    check(
        "
        svc policy max=1 key=a   => write POLICY_SET
        svc policy max=1 key=b   =>
        ack                      => #1 ok done; #2 ok done
        u1 select 0 5            => ok selected 0 5 until 30
        u1 hold r1 0 key=c       => write HELD r1
        u1 hold r2 5 key=d       => no LIMIT_REACHED
        ack                      => #5 ok HOLD r1 v1 until 300 amount 100 created
        u1 cancel r1 key=e       => write CANCELLED r1
        u1 hold r2 5 key=d       => no LIMIT_REACHED
        ack                      => #8 ok CANCELLED r1 v2 until never amount 100
        u1 hold r2 5 key=d       => write HELD r2
        ",
    );
}

#[test]
fn a_refusal_of_the_ledger_halts() {
    check(
        "
        u1 select 0              => ok selected 0 until 30
        u1 hold r1 0 key=a       => write HELD r1
        u1 hold r1 0 key=a       =>
        refuse                   => #2 unavailable LEDGER_UNAVAILABLE; #3 unavailable LEDGER_UNAVAILABLE; halt
        u1 select 3              =>
        +1                       =>
        ",
    );
}

#[test]
fn restart_goes_on_where_the_ledger_stands() {
    check(
        "
        u1 select 0 1 2          => ok selected 0 1 2 until 30
        u1 hold r1 0 key=a       => write HELD r1
        ack                      => #2 ok HOLD r1 v1 until 300 amount 100 created
        svc block r2 9 key=b     => write BLOCKED r2
        svc policy max=2 key=c   => write POLICY_SET
        ack                      => #4 ok CONFIRMED r2 v1 until never amount 0 created; #5 ok done
        restart                  => same
        // an entry that never arrived: its seat is a soft lock again
        u1 hold r3 1 key=d       => write HELD r3
        restart                  => same
        u1 select 1              => ok renewed 1 until 30
        u2 select 1              => no SEAT_TAKEN 1=SELECTING
        u1 hold r1 0 key=a       => ok HOLD r1 v1 until 300 amount 100 created (replay)
        svc close                => write OPTION_CLOSED
        ack                      => #14 ok done
        restart                  => same
        u1 select 1              => no OPTION_CLOSED
        +900                     => write EXPIRED r1
        ack                      =>
        restart                  => same
        ",
    );
}

#[test]
fn too_many_commands_behind_one_entry_are_overload() {
    let mut script =
        String::from("u1 select 0 => ok selected 0 until 30\nu1 hold r1 0 key=a => write HELD r1\n");
    for _ in 0..64 {
        script += "svc confirm r1 =>\n";
    }
    check(&(script + "svc confirm r1 => unavailable OVERLOADED"));
}
