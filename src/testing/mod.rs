//! Users' tests of their actions: an action runs in memory, with signals and a clock that the test writes, and its
//! executor dies wherever it can.
//!
//! A [`Rehearsal`] runs an action to its end. Nothing is waited for: while the action only waits, the clock moves to the
//! next thing that happens. This one charges a card, waits for a person, and undoes the charge when nobody comes:
//!
//! ```
//! use std::time::Duration;
//!
//! use longshore::action::Context;
//! use longshore::domain::Failure;
//! use longshore::testing::Rehearsal;
//!
//! async fn order(context: Context, item: String) -> Result<String, Failure> {
//!     let receipt: String = context.step("charge", || async { Ok(format!("paid {item}")) }).await?;
//!     let limit = Duration::from_hours(48);
//!     let Some(by) = context.wait_for_within::<String>("approved", limit).await? else {
//!         context.step("refund", || async { Ok(()) }).await?;
//!         return Err(Failure::fatal("nobody approved the order"));
//!     };
//!     Ok(format!("{receipt}, approved by {by}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), longshore::testing::RehearsalError> {
//! let approved = Rehearsal::of_fn(order, "a crane")
//!     .with_signal_at(Duration::from_hours(47), "approved", "ann")
//!     .run()
//!     .await?;
//! assert_eq!(approved.output::<String>()?, "paid a crane, approved by ann");
//! assert_eq!(approved.elapsed, Duration::from_hours(47));
//! assert_eq!(approved.runs("refund"), 0);
//!
//! let refused = Rehearsal::of_fn(order, "a crane").run().await?;
//! assert_eq!(refused.result.unwrap_err().message, "nobody approved the order");
//! assert_eq!(refused.elapsed, Duration::from_hours(48));
//! # Ok(())
//! # }
//! ```
//!
//! [`crash_everywhere`] runs it again and again, and lets its executor die right before and right after each write. It
//! finds what decides otherwise when it runs again. Here the key of a charge holds the number of the attempt, so that a
//! crash charges the card twice:
//!
//! ```
//! use longshore::action::{Action, Context};
//! use longshore::domain::Failure;
//! use longshore::testing::crash_everywhere;
//!
//! struct Charge {
//!     is_careless: bool,
//! }
//!
//! impl Action for Charge {
//!     const NAME: &'static str = "charge";
//!     type Input = u32;
//!     type Output = u32;
//!
//!     async fn run(&self, context: Context, euros: u32) -> Result<u32, Failure> {
//!         let step = if self.is_careless {
//!             format!("charge-{}", context.attempt())
//!         } else {
//!             "charge".to_owned()
//!         };
//!         let charged: u32 = context.step(&step, || async move { Ok(euros) }).await?;
//!         context.step("send-receipt", || async move { Ok(charged) }).await
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), longshore::testing::RehearsalError> {
//! let report = crash_everywhere(Charge { is_careless: false }, &7).await?;
//! assert_eq!(report.crashes.len(), 5, "on both sides of two steps, and before the end");
//! assert_eq!(report.runs_max("charge"), 2, "a crash came between the charge and its being stored");
//!
//! let error = crash_everywhere(Charge { is_careless: true }, &7).await.unwrap_err();
//! assert!(error.to_string().contains("did not ask again for what is stored (`charge-1`)"));
//! # Ok(())
//! # }
//! ```
//!
//! A rehearsal differs from an executor in this: one attempt runs at a time, also of sub-tasks; while it runs no time
//! passes but what [`Rehearsal::with_step_taking`] says, and no `timeout` ends it; nobody cancels it; signals go to the task
//! itself, and never to its sub-tasks; and one that outlives its parent is not run once that has ended.

mod crash;
mod error;
mod family;
mod host;
mod rehearsal;
mod rehearsed;
mod stage;
#[cfg(test)]
mod tests;
mod world;

pub use crash::{CrashPoint, CrashReport, Side};
pub use error::RehearsalError;
pub use rehearsal::Rehearsal;
pub use rehearsed::{Rehearsed, RehearsedSubtask};

use serde::Serialize;

use crate::action::Action;

/// Runs `action` with `input` without a crash, and then once for each moment at which its executor can die. For an action
/// that is a function, has sub-tasks or waits for signals see [`Rehearsal::crash_everywhere`].
///
/// # Errors
///
/// As [`Rehearsal::crash_everywhere`].
///
/// # Panics
///
/// As [`Registry::with`](crate::action::Registry::with).
///
/// # Cancel safety
///
/// Dropped, nothing is left of it.
pub async fn crash_everywhere<A: Action, I: Serialize + ?Sized>(
    action: A,
    input: &I,
) -> Result<CrashReport, RehearsalError> {
    Rehearsal::of(action, input).crash_everywhere().await
}
