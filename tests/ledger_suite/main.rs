//! What every ledger must do, run against each of them: the same cases over a [`world::World`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod append;
mod audits;
mod catalogue;
mod chain;
mod draws;
mod gates;
mod leases;
mod load;
mod moves;
mod postgres;
mod postgres_faults;
mod postgres_gates;
mod postgres_moves;
mod postgres_open;
mod postgres_plans;
mod postgres_races;
mod postgres_refusals;
mod schema;
mod simulated;
mod sqlite;
mod sqlite_faults;
mod sqlite_open;
mod transitions;
mod world;

/// Every case, for one ledger.
macro_rules! conformance {
    ($ledger:ident, $world:path) => {
        conformance!(@cases $ledger, $world,
            append: [
                applies_and_answers_per_shard,
                a_seat_keeps_its_number,
                a_retry_of_the_same_bytes_is_a_duplicate,
                a_batch_half_known_is_completed,
                another_event_in_the_same_place_is_told_apart,
                a_chain_must_go_on_where_it_ended,
                an_old_epoch_is_fenced,
                another_owner_is_fenced,
                a_fenced_shard_does_not_hold_up_the_others,
                a_taken_seat_refuses_the_whole_batch,
                a_wrong_version_refuses_the_whole_batch,
                an_illegal_transition_is_refused,
                a_reservation_of_another_shard_is_refused,
                an_unknown_option_is_refused,
                heads_follow_the_chain,
                a_full_batch_of_many_shards,
                callers_at_once_do_not_mix,
            ],
            transitions: [
                a_sale_from_hold_to_refund,
                a_cancelled_seat_is_sold_again,
                an_expired_seat_is_sold_again,
                a_block_and_its_end,
                options_open_and_close,
                policies_are_set_and_changed,
            ],
            leases: [
                a_free_shard_is_acquired_once,
                a_lease_that_ran_out_is_free,
                renewal_keeps_what_is_held,
                a_lost_lease_is_not_renewed,
                acquiring_again_raises_the_epoch,
                a_released_shard_is_free_at_once,
                epochs_outlive_the_process,
                time_is_the_ledgers_and_goes_on,
            ],
            moves: [
                leases_are_listed,
                a_hand_over_leaves_no_free_moment,
                a_lease_that_was_handed_over_lives_from_then,
                a_hand_over_fences_the_old_owner,
                an_unknown_hand_over_is_settled_by_acquiring_again,
                what_is_not_mine_is_not_handed_over,
                what_was_handed_over_is_accepted,
                a_dead_owners_shard_is_taken_before_its_time,
                only_what_the_dead_still_have_is_taken,
                the_cluster_has_an_id_of_its_own,
            ],
            load: [
                an_empty_shard,
                every_field_comes_back,
                the_horizon_cuts_what_is_over,
                answers_come_back_oldest_first,
                other_shards_stay_out,
                a_killed_process_loses_nothing,
                one_reservation_however_old,
                pages_of_a_user,
            ],
            catalogue: [
                an_import_comes_back,
                a_title_gets_further_options,
                the_same_start_twice_is_refused,
                a_shard_of_its_own,
                ids_are_paged,
                an_option_waits_for_its_shard,
            ],
            audits: [
                an_honest_history_is_clean,
                memory_is_compared_at_its_own_event,
                a_wrong_memory_is_told,
                a_snapshot_is_one_moment,
                a_forged_log_is_told,
            ],
            gates: [
                a_gate_comes_back,
                gates_are_listed_by_shard,
                a_gate_is_set_from_the_version_before,
                a_change_of_a_gate_again_is_done_already,
                a_history_is_newest_first_and_paged,
                what_was_admitted_is_noted_once,
                gates_are_fenced,
                changes_of_a_gate_at_once_do_not_mix,
                gates_outlive_the_process,
                a_concert_says_whether_it_is_gated,
            ],
            draws: [
                a_draw_goes_through_its_stages,
                draws_of_every_kind_come_back,
                what_a_draw_has_published_stays,
                a_further_draw_waits_for_the_one_before,
                a_draw_that_contradicts_itself_is_refused,
                a_draw_of_a_hundred_thousand,
            ],
            simulated: [
                two_thousand_seeds_agree,
            ],
        );
    };
    (@cases $ledger:ident, $world:path, $($area:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        mod $ledger {
            $(mod $area {
                $(
                    #[tokio::test]
                    async fn $case() {
                        crate::$area::$case(&<$world>::new()).await;
                    }
                )*
            })*
        }
    };
}

conformance!(on_sqlite, crate::sqlite::SqliteWorld);
conformance!(on_postgres, crate::postgres::PgWorld);
