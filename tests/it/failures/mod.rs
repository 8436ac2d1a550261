//! What fails, and what must hold: a test for each row, with real processes on a real RabbitMQ and a real PostgreSQL.
//!
//! | what fails | test |
//! | --- | --- |
//! | `kill -9` of an executor in the middle of a task | `executors::kill_9_of_an_executor_in_the_middle_of_a_task` |
//! | the host of an executor: nobody closes its connections | `executors::host_of_an_executor_loses_its_power` |
//! | an executor frozen past its lease, then continued | `executors::executor_frozen_past_its_lease_then_continued` |
//! | its broker connection | `connections::executor_s_broker_connection_cut_its_store_connection_alive` |
//! | its store connection | `connections::its_store_connection_cut` |
//! | the broker, for a minute under load | `brokers::broker_stopped_for_a_minute_under_load` |
//! | the broker's data, under load | `brokers::broker_s_data_wiped_under_load` |
//! | PostgreSQL | `stores::postgresql_restarted_under_load`, `stores::postgresql_away_for_a_minute_under_load` |
//! | a web server while clients wait | `webs::web_server_killed_while_clients_wait` |
//! | a confirm between commit and publish | `webs::confirm_lost_between_commit_and_publish`, `webs::web_server_killed_between_commit_and_publish` |
//! | a poison task | `poison::poison_task_that_kills_its_executor` |
//! | input that cannot be used | `webs::payload_too_large_too_deep_nul_wrong_json_unknown_action_or_queue` |
//! | stalled taps | `taps::stalled_tap_10_of_them_under_full_load` |
//! | the exchange of taps | `taps::exchange_of_taps_is_missing` |
//! | an announcement that nobody takes | `connections::announcement_that_nobody_could_be_brought_is_told_of_its_task` |
//! | a work queue that is deleted | `connections::work_queue_deleted_under_its_consumers` |
//! | the broker's memory | `brokers::broker_that_is_out_of_memory` |

mod brokers;
mod connections;
mod executors;
mod poison;
mod stores;
mod taps;
mod webs;

use std::time::Duration;

use jiff::Timestamp;
use longshore::domain::limits::CLAIM_EXPECTED;
use serde_json::Value;

/// Whether a task began before anybody would look for it in the store: its announcement has brought it.
fn was_brought(task: &Value) -> bool {
    let time = |name: &str| task[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let waited = time("started_at").duration_since(time("created_at"));
    Duration::try_from(waited).unwrap() < CLAIM_EXPECTED
}
