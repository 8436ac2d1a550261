//! The contract of stores, case by case on each backend, and what only one of them can be asked.

use std::future::Future;

use longshore::domain::QueueName;
use longshore::store::postgres::PostgresStore;
use longshore::store::sqlite::SqliteStore;
use longshore::store::{Store as _, StoreAddress, StoreError};

use crate::contract::store::{World, plans};
use crate::support::database;
use crate::support::keeper::Keeper;
use crate::support::services::POSTGRES;

/// Runs one test on threads of its own.
fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// One named test for each case and backend: `store::postgres::a_claim_is_lent_to_one_executor`.
macro_rules! store_contract {
    ($($module:ident { $($case:ident,)+ })+) => {
        store_contract!(@backend postgres, postgres; $($($module::$case,)+)+);
        store_contract!(@backend sqlite, sqlite; $($($module::$case,)+)+);
    };
    (@backend $backend:ident, $world:ident; $($module:ident::$case:ident,)+) => {
        mod $backend {
            use crate::contract::store::{self as cases, World};

            $(
                #[test]
                fn $case() {
                    super::run(async {
                        let world = World::$world().await;
                        cases::$module::$case(&world).await;
                        world.end().await;
                    });
                }
            )+
        }
    };
}

store_contract! {
    submitting {
        a_stored_task_comes_back_as_it_was,
        what_is_submitted_and_claimed_at_once_is_nobody_elses,
        an_executor_whose_lease_has_ended_gets_nothing_of_what_is_submitted,
        a_task_submitted_twice_is_stored_once,
        a_batch_of_submissions_is_answered_in_order,
        a_task_of_an_unknown_queue_is_refused,
        a_task_of_an_unknown_parent_is_refused,
        a_task_of_a_parent_that_ended_is_refused,
        a_sub_task_has_the_root_and_the_earlier_deadline_of_its_parent,
        submissions_with_one_key_are_one_task,
        a_key_and_an_id_may_name_different_tasks,
        concurrent_submissions_with_one_key_are_one_task,
        a_key_lives_as_long_as_its_task,
    }
    attempts {
        a_claim_is_lent_to_one_executor,
        a_claim_whose_answer_was_lost_is_answered_again,
        a_claim_takes_ready_tasks_only,
        an_executor_whose_lease_ended_claims_nothing,
        an_idle_claim_takes_what_it_can_run_the_highest_priority_first,
        an_idle_claim_leaves_what_is_fresh,
        concurrent_idle_claims_share_nothing,
        an_attempt_settles_once,
        a_stale_token_changes_nothing,
        whatever_a_stale_attempt_writes_changes_nothing,
        a_batch_of_settlements_is_answered_in_order,
        a_failed_attempt_is_planned_again,
        a_paused_task_keeps_its_error,
        a_released_task_is_ready_again,
        concurrent_batches_do_not_wait_in_a_circle,
    }
    signalling {
        a_signal_that_came_before_the_suspension_wakes_at_once,
        only_the_signal_that_is_waited_for_wakes,
        a_signal_with_a_known_key_is_one_and_wakes_nobody,
        a_stale_attempt_takes_no_signal,
        a_signal_that_nobody_can_take_is_not_stored,
    }
    cancelling {
        cancelling_reaches_the_whole_tree,
        cancelling_an_unknown_or_final_task_says_so,
        a_heartbeat_hears_of_cancellations,
        no_attempt_follows_a_wish_to_cancel,
        an_attempt_that_ended_before_it_heard_keeps_its_ending,
        a_tree_that_grows_while_it_is_cancelled_is_cancelled_as_a_whole,
    }
    executors {
        the_tasks_of_a_lost_executor_are_taken_over,
        a_take_over_stops_at_its_limit_and_goes_on_later,
        concurrent_take_overs_release_each_task_once,
        a_late_renewal_holds_while_nobody_has_taken_over,
        a_renewal_says_how_many_serve_each_queue,
        a_retired_executor_gives_back_its_tasks,
        many_tasks_of_a_retired_executor_are_given_back_together,
        executors_are_listed_the_newest_first,
        an_executor_that_enters_again_replaces_its_slots,
        an_executor_keeps_its_tasks_when_it_enters_again,
    }
    crashes {
        a_task_that_ran_alone_is_charged_with_the_crash,
        of_several_that_ran_nobody_is_charged,
        a_task_on_trial_is_charged_and_its_neighbours_are_not,
        a_trial_that_ended_before_the_crash_blames_nobody,
        what_keeps_killing_is_quarantined_with_what_is_known,
        an_executor_that_leaves_in_peace_charges_nobody,
        what_may_run_only_once_is_left_to_the_dead_until_their_lease_has_ended,
        a_lease_that_was_renewed_since_is_not_ended,
        who_lacks_a_token_and_is_silent_is_told,
        only_the_executor_that_is_meant_is_taken_over,
        an_idle_look_keeps_to_its_marks,
        an_idle_look_goes_on_where_the_last_one_stopped,
    }
    times {
        a_task_due_later_waits_for_its_time,
        nothing_is_due_in_an_empty_store,
        a_glance_tells_what_there_is_to_do,
        what_is_due_is_moved_within_the_limit,
        an_open_task_past_its_deadline_fails,
        a_scheduled_task_past_its_deadline_does_not_start,
        a_running_task_past_its_deadline_is_left_to_its_executor,
        concurrent_looks_move_each_task_once,
        pruning_deletes_final_tasks_and_their_logs,
        pruning_takes_the_oldest_first,
    }
    scheduling {
        a_schedule_comes_back_as_it_was,
        the_same_schedule_is_made_once_and_another_is_refused,
        nothing_fires_before_its_time,
        a_schedule_that_is_due_submits_its_task,
        a_time_that_has_fired_fires_never_again,
        housekeepers_that_look_at_once_fire_each_schedule_once,
        a_deleted_schedule_leaves_its_tasks,
        a_damaged_schedule_is_named_and_holds_up_no_other,
        a_schedule_whose_queue_is_gone_is_paused_with_the_reason,
        the_task_of_a_firing_is_known_by_its_id,
        a_closed_store_fires_nothing,
    }
    schedule_policies {
        a_firing_is_skipped_while_the_task_before_is_open,
        a_firing_waits_for_the_task_before,
        a_firing_cancels_the_task_before_with_all_below_it,
        an_outage_of_hours_is_caught_up_with_as_the_policy_says,
        a_schedule_of_one_time_ends_with_it,
        a_paused_schedule_fires_when_it_is_resumed,
        what_waits_goes_on_waiting_while_a_schedule_is_paused,
        a_trigger_fires_out_of_turn_within_the_policy,
        firings_are_forgotten,
    }
    broken_rows {
        a_row_that_cannot_be_read_is_named_and_hides_no_other,
        a_task_whose_row_cannot_be_read_is_paused_when_it_is_claimed,
        an_attempt_that_cannot_be_counted_on_pauses_the_task,
        an_attempt_below_zero_pauses_the_task,
        labels_that_are_no_json_hide_no_other_task,
        a_wish_whose_reason_cannot_be_read_fails_no_renewal,
        failures_at_their_end_hold_up_no_settlement,
        a_lost_task_whose_options_cannot_be_read_is_paused,
        counts_that_cannot_be_read_hold_up_no_end,
    }
    operating {
        a_resumed_task_is_ready_with_its_failures_and_its_deadline,
        a_retried_paused_task_begins_anew,
        a_retried_final_task_is_copied,
        an_abandoned_task_fails_with_the_former_error_as_detail,
        a_task_of_which_no_step_failed_cannot_be_skipped,
        a_verb_is_refused_in_other_states_and_changes_nothing,
        of_concurrent_verbs_one_is_carried_out,
        a_quarantined_task_that_is_resumed_is_still_a_suspect,
        a_task_whose_row_cannot_be_read_can_be_given_up,
        a_cancel_by_an_operator_is_noted_and_any_other_is_not,
        a_history_is_bounded_and_goes_with_its_task,
        a_dead_letter_is_noted_once_for_each_task_and_never_of_a_final_one,
        dead_letters_at_once_are_noted_once,
    }
    progressing {
        progress_is_stored_with_its_task,
        progress_of_an_attempt_that_is_not_the_executors_is_not_written,
        of_several_in_a_batch_the_last_counts,
        a_quarantined_task_shows_its_last_progress,
    }
    auditing {
        what_the_store_itself_writes_breaks_no_rule,
        each_violation_is_found_and_nothing_else,
        sub_tasks_that_are_counted_wrongly_are_found,
        a_stray_timer_or_request_is_found,
        what_is_unreadable_is_found_with_its_column,
        what_is_safe_is_repaired,
        what_runs_without_an_owner_is_released_as_from_a_lost_executor,
        a_repair_leaves_alone_what_is_right_meanwhile,
        what_waits_for_long_is_told_with_who_could_run_it,
        more_violations_than_can_be_told_are_cut,
    }
    reading {
        only_known_tasks_are_found,
        a_list_is_filtered,
        a_list_is_counted,
        a_list_goes_on_before_its_last_task,
        a_tree_lists_parents_before_children,
        what_stands_before_a_task_is_counted,
        queues_count_what_is_open,
        a_paused_queue_says_by_whom_and_executors_hear_of_it,
        an_overview_tells_what_is_open,
        an_overview_is_not_hidden_by_a_broken_row,
        log_chunks_are_kept_once_and_in_order,
        log_chunks_of_an_unknown_task_are_dropped,
        migrating_again_changes_nothing,
        another_schema_is_reported,
        a_closed_store_is_unavailable,
        a_store_says_who_it_is,
    }
}

#[test]
fn two_migrations_at_once_both_succeed_in_postgres() {
    run(async {
        let world = World::empty_postgres().await;
        crate::contract::store::reading::two_migrations_at_once_both_succeed(&world).await;
        world.end().await;
    });
}

#[test]
fn two_migrations_at_once_both_succeed_in_sqlite() {
    run(async {
        let world = World::empty_sqlite().await;
        crate::contract::store::reading::two_migrations_at_once_both_succeed(&world).await;
        world.end().await;
    });
}

#[test]
fn postgres_refuses_whom_it_does_not_know() {
    run(async {
        let wrong_password = POSTGRES
            .ready()
            .replace("longshore:longshore", "longshore:hunter2");
        for wrong in [wrong_password, database::address_of("nowhere")] {
            let error = PostgresStore::connect(&wrong).await.unwrap_err();
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    });
}

#[test]
fn a_postgres_that_is_not_there_is_named_without_its_password() {
    run(async {
        // Port 1 is reserved (tcpmux) and nobody listens there.
        let address = "postgres://me:hunter2@127.0.0.1:1/tasks";
        let error = PostgresStore::connect(address).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("postgres://me:***@127.0.0.1:1/tasks"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    });
}

#[test]
fn a_store_goes_on_after_postgres_has_dropped_its_connections() {
    run(async {
        let world = World::postgres().await;
        let tasks = world.ready(3).await;
        let executor = world.executor().await;
        let name = world.address.rsplit('/').next().unwrap();
        world
            .sql(&format!(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = '{name}' and pid <> pg_backend_pid()"
            ))
            .await;
        let first = world.store.claim(executor, &tasks[..1]).await;
        assert!(
            first.as_ref().is_ok_and(|claimed| claimed.len() == 1)
                || first.is_err_and(|error| error.is_transient())
        );
        let claimed = world.store.claim(executor, &tasks[1..]).await.unwrap();
        assert_eq!(claimed.len(), 2, "the next call opened a new connection");
        world.end().await;
    });
}

#[test]
fn a_call_waits_while_postgres_restarts() {
    run(async {
        let keeper = Keeper::start("postgres.sh", &[]);
        let store = PostgresStore::connect(&keeper.ready()).await.unwrap();
        store.migrate().await.unwrap();
        keeper.run("postgres-restart.sh", "stop").await;
        let restart = keeper.run("postgres-restart.sh", "start");
        let calls = async {
            // The connection that was there is dead: one call may meet it. The next one opens another, as soon as
            // the server is back.
            if let Err(error) = store.queues().await {
                assert!(error.is_transient(), "{error:?}");
                assert_eq!(store.queues().await.unwrap().len(), 1);
            }
        };
        tokio::join!(restart, calls);
        store.close().await;
        keeper.stop();
    });
}

#[test]
fn a_sqlite_store_in_memory_is_its_own() {
    run(async {
        let one = SqliteStore::open("sqlite::memory:").await.unwrap();
        let other = SqliteStore::open("sqlite::memory:").await.unwrap();
        one.migrate().await.unwrap();
        assert_eq!(one.queues().await.unwrap().len(), 1);
        assert_eq!(other.schema_version().await.unwrap(), None);
    });
}

#[test]
fn a_file_that_is_no_sqlite_store_is_refused() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(
            &path,
            "not a database, but long enough to look like one".repeat(100),
        )
        .unwrap();
        let open = async |path: &std::path::Path| {
            SqliteStore::open(&format!("sqlite:{}", path.display()))
                .await
                .unwrap_err()
        };
        let error = open(&path).await;
        assert!(matches!(error, StoreError::Address { .. }), "{error:?}");
        let error = open(&dir.path().join("no/such/folder.db")).await;
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    });
}

#[test]
fn no_call_about_one_task_reads_the_others() {
    run(async {
        let world = World::postgres().await;
        plans::no_call_about_one_task_reads_the_others(world).await;
    });
}

#[test]
fn a_gauge_counts_what_postgres_writes() {
    run(async {
        let address = database::fresh_database().await;
        let store = PostgresStore::connect(&address).await.unwrap();
        let address: StoreAddress = address.parse().unwrap();
        let gauge = address.gauge().await.unwrap().unwrap();
        let before = gauge.read().await.unwrap();
        for number in 0..3 {
            let queue = QueueName::new(&format!("gauge-{number}")).unwrap();
            store.create_queue(&queue).await.unwrap();
        }
        let after = gauge.read().await.unwrap();
        // Others write to the same server.
        assert!(after.writes >= before.writes + 3, "{before:?} {after:?}");
        assert!(after.wal_bytes > before.wal_bytes, "{before:?} {after:?}");
        assert_eq!((before.process, before.port), (after.process, after.port));
        assert!(before.port.is_some());
        store.close().await;
        let address: StoreAddress = "sqlite::memory:".parse().unwrap();
        assert!(address.gauge().await.unwrap().is_none());
    });
}
