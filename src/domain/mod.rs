//! Tasks and their rules.
//!
//! **Invariant:** pure. Knows no clock, no chance, no I/O, no async and no database: everything a rule
//! needs is an argument.

mod audit;
mod dead_letter;
mod difference;
mod executor;
mod failure;
mod fan_out;
mod ids;
mod json;
mod key;
pub mod limits;
mod log;
mod names;
mod payload;
mod progress;
mod queue;
mod retry;
mod schedule;
mod secret;
mod settlement;
mod signal;
mod state;
mod step;
mod submission;
mod task;
mod verb;
mod waiting;
mod why;
mod words;

pub use audit::{Audit, AuditDepth, ExecutorLoad, Subject, Violation, ViolationKind, unannounced};
pub use dead_letter::{DeadLetter, Grave};
pub use difference::{Difference, differences};
pub use executor::{ExecutorRecord, ExecutorState, Slots};
pub use failure::{Failure, Verdict};
pub use fan_out::{FailurePolicy, FanOut, FanOutPlace, FanOutPlan};
pub use ids::{ExecutorId, IdError, OriginToken, TaskId, WebId};
pub use key::IdempotencyKey;
pub use log::{LogChunk, LogPosition, LogStream};
pub use names::{
    ActionName, ExecutorName, NameError, QueueName, ScheduleName, SignalName, StepName,
};
pub use payload::{Payload, PayloadError, PayloadLimits};
pub use progress::Progress;
pub use queue::{QueuePause, QueueRecord};
pub use retry::{RetryError, RetryPolicy};
pub use schedule::{
    CatchUp, Cron, CronError, Firing, FiringState, Overlap, Plan, SCHEDULE_LABEL, ScheduleError,
    ScheduleRecord, ScheduleSpec, ScheduleState, Timing, Turn, Zone, ZoneError,
};
pub use secret::masked_url;
pub use settlement::{Ending, Settlement, ending_of_crash, ending_of_failure, ending_of_loss};
pub use signal::NewSignal;
pub use state::{IllegalTransition, TaskEvent, TaskState, Transition};
pub use step::{Step, StepKind, StepOutcome, StepProgress, StepRecord};
pub use submission::{Labels, NewTask, Options, Submission, SubmissionError};
pub use task::{Attempt, Delivery, OnFailure, Task, TaskFacts};
pub use verb::{
    Course, HistoryEntry, HistoryKind, Operator, Verb, VerbError, VerbKind, course_of_a_step, note,
};
pub use waiting::{TIMER_MARK, WaitingFor, fan_out_mark, signal_mark};
pub use why::{Announcements, Circumstances, Why, why};
pub use words::{duration_words, thousands};
