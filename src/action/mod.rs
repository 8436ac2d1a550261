//! User code: what an action is, what it sees of the world, and the list of those an executor can run.

pub mod builtin;
mod context;
pub mod durable;
mod host;
mod registry;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use context::{Context, Stop};
pub use durable::{Joined, Operation, Results, Subtask, Subtasks};
pub use host::{Host, SpawnBatch, SpawnedAs};
pub use registry::{Registry, Running};

use crate::domain::Failure;

/// User code of one kind: a name, an input type, an output type.
///
/// The value holds what the code needs of its process, such as a connection pool. It is shared by all
/// attempts of the executor.
///
/// ```
/// use longshore::action::{Action, Context, Registry};
/// use longshore::domain::Failure;
///
/// struct Resize;
///
/// #[derive(serde::Deserialize)]
/// struct Image {
///     width_px: u32,
/// }
///
/// impl Action for Resize {
///     const NAME: &'static str = "images.resize";
///     type Input = Image;
///     type Output = u32;
///
///     async fn run(&self, _context: Context, image: Image) -> Result<u32, Failure> {
///         if image.width_px == 0 {
///             return Err(Failure::fatal("an image has at least one column"));
///         }
///         Ok(image.width_px / 2)
///     }
/// }
///
/// let registry = Registry::new().with(Resize);
/// assert_eq!(registry.names().count(), 1);
/// ```
pub trait Action: Send + Sync + 'static {
    /// The action's name, as submissions say it.
    const NAME: &'static str;
    /// What it is given. An input that is not of this type fails the task, with the path to what is wrong.
    type Input: DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + Send + 'static;

    /// Runs the action once.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped at any await when the task is cancelled, its time limit is over, or its executor
    /// stops, after a grace in which [`Context::stopped`] tells; and when it only waits for what is durable. After that, and
    /// after a crash, it runs again from its start (after a crash not with delivery `once`), and the steps that are stored
    /// are not repeated.
    fn run(
        &self,
        context: Context,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}
