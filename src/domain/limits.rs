//! Every fixed bound of the system, with its unit and its reason, and how the bounds relate.

use std::time::Duration;

/// Bytes of a payload that are accepted by default: 1 MiB. Larger data belongs into an object store; the
/// broker's limit for a message ([`MESSAGE_BYTES_MAX`]) is the hard end.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1024 * 1024;

/// Bytes of a payload that a setting may allow at most.
pub const PAYLOAD_BYTES_CEILING: usize = 8 * 1024 * 1024;

/// Bytes of one broker message, envelope included. `rabbitmq.conf` sets the same number.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How deep arrays and objects may nest in a payload. Below the recursion limit (128) of the JSON parser,
/// because a payload travels inside other documents.
pub const PAYLOAD_DEPTH_MAX: usize = 64;

/// Labels of one task.
pub const LABELS_MAX: usize = 32;

/// Bytes of one label's name or value.
pub const LABEL_BYTES_MAX: usize = 255;

/// Bytes of an idempotency key, as most interfaces allow.
pub const KEY_BYTES_MAX: usize = 255;

/// Attempts that a retry policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1000;

/// The longest duration a task may carry (retry delay, time limit): ten years.
pub const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// Tasks in one store batch. Above it a statement gains nothing and its transaction only gets longer
/// (measured: 87,000 rows/s at 256, 94,000 at 1,024, 64,000 at 4,096).
pub const BATCH_MAX: usize = 256;

/// Calls that may wait for the next batch; callers beyond it wait for a place.
pub const BATCH_WAITING_MAX: usize = 4 * BATCH_MAX;

/// Tasks on one page of a list.
pub const PAGE_MAX: usize = 1000;

/// Tasks on one page of a list by default.
pub const PAGE_DEFAULT: usize = 100;

/// Tasks of one tree that are shown or cancelled together.
pub const TREE_MAX: usize = 10_000;

/// Sub-tasks that one call may spawn.
pub const SUBTASKS_MAX: u32 = 100_000;

/// Steps of one task whose outcomes are stored. All of them are read when its next attempt begins.
pub const STEPS_MAX: u32 = 10_000;

/// Signals of one task that nobody has taken yet; further ones are refused.
pub const SIGNALS_MAX: u32 = 1_000;

/// Tasks that are counted before one in its queue: whoever has to wait for more need not know how many.
pub const AHEAD_MAX: u64 = 10_000;

/// How soon a ready task is taken when somebody has room for it and its announcement travels: a hundred times what it
/// takes, so that an announcement that is still missing then is called lost.
pub const CLAIM_EXPECTED: Duration = Duration::from_secs(2);

/// Slots of one queue in one executor.
pub const SLOTS_MAX: u16 = 10_000;

/// Violations, and tasks that wait for long, that one audit tells. Who has more repairs these first.
pub const AUDIT_MAX: usize = 1000;

/// How long a task may be `ready` before an audit asks whether anybody heard of it. Many times what a delivery takes,
/// and an idle look.
pub const READY_SUSPECT: Duration = Duration::from_mins(1);

/// How long an executor owns its tasks after its last renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How often an executor renews its lease.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Crashes that one task is charged with before nobody runs it any more. An executor may be killed once by chance, and
/// twice by bad luck.
pub const CRASHES_MAX: u32 = 3;

/// Bytes of one log chunk; longer lines are cut into several.
pub const LOG_CHUNK_BYTES_MAX: usize = 8 * 1024;

/// Bytes of log that one attempt may keep; what comes later is dropped, and the log says so.
pub const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries of one task's history; the oldest go. An operator acts by hand, so it is many.
pub const HISTORY_MAX: usize = 100;

/// Bytes of a note in a task's history.
pub const HISTORY_NOTE_BYTES_MAX: usize = 1000;

/// Bytes of the name that an operator gives.
pub const OPERATOR_BYTES_MAX: usize = 100;

/// How often the progress of one attempt is stored at most: a person does not look more often, and each store is a write
/// of the task's row.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a progress message: one line on a terminal, with room for letters of several bytes. It travels in events.
pub const PROGRESS_MESSAGE_BYTES_MAX: usize = 200;

/// Schedules of one store. Whoever needs more submits tasks by a program of their own.
pub const SCHEDULES_MAX: usize = 10_000;

/// The shortest interval of a schedule: what is due more often is work for a task that loops.
pub const EVERY_MIN: Duration = Duration::from_secs(1);

/// Missed firings that the catch-up policy `all` makes up for, the newest: an outage of days must not become a flood.
pub const CATCH_UP_MAX: usize = 100;

/// Firings of one schedule that wait for the task of the one before. What is due beyond them is skipped.
pub const FIRINGS_WAITING_MAX: usize = 100;

/// Firings of one schedule that are remembered besides those that wait.
pub const FIRINGS_KEPT: usize = 100;

/// How late a firing may be and still be on time, for a schedule that drops what it missed. Longer than it takes until
/// another executor keeps house, when one has died.
pub const PUNCTUAL_MAX: Duration = Duration::from_mins(1);

/// How often a firing that waits looks whether the task before it has ended: as often as an executor keeps house.
pub const WAITING_INTERVAL: Duration = Duration::from_secs(5);

/// The longest a client may ask the web server to wait in one request.
pub const WAIT_MAX: Duration = Duration::from_mins(10);

// Two heartbeats may be lost before a live executor loses its tasks.
const _: () = assert!(HEARTBEAT_INTERVAL.as_secs() * 3 <= LEASE_DURATION.as_secs());
// A payload, escaped in the worst case only once, fits into a message with its envelope.
const _: () = assert!(PAYLOAD_BYTES_CEILING + 64 * 1024 <= MESSAGE_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_DEFAULT <= PAYLOAD_BYTES_CEILING);
const _: () = assert!(PAYLOAD_DEPTH_MAX + 16 <= 128);
// What is made up for can wait.
const _: () = assert!(CATCH_UP_MAX <= FIRINGS_WAITING_MAX);
