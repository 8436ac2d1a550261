//! The only loop that waits; its message says what it last saw.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `is_right` holds for what `look` sees, and answers with it.
pub(crate) async fn eventually<T: Debug>(
    what: &str,
    look: impl AsyncFnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    eventually_within(PATIENCE, what, look, is_right).await
}

/// The same with another patience, for what takes a lease or an outage.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the only loop that waits"
)]
pub(crate) async fn eventually_within<T: Debug>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        if is_right(&seen) {
            return seen;
        }
        assert!(
            begun.elapsed() < patience,
            "waited {patience:?} until {what}; last seen: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets a fault last: the length of an outage is what such a test is about, and nothing says when it is over.
#[expect(clippy::disallowed_methods, reason = "the duration of a fault")]
pub(crate) async fn fault_lasts(duration: Duration) {
    tokio::time::sleep(duration).await;
}
