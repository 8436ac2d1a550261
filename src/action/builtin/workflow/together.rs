//! Futures that go on side by side.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A part of a workflow under way.
pub(super) type Part<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs all of `parts` to their ends. All of them are polled with the waker that is given: a combinator that makes wakers of
/// its own would keep the workflow loaded while it only waits.
pub(super) async fn together(parts: Vec<Part<'_>>) {
    let mut open: Vec<_> = parts.into_iter().map(Some).collect();
    poll_fn(move |context| {
        for place in &mut open {
            let has_ended = place
                .as_mut()
                .is_some_and(|part| part.as_mut().poll(context).is_ready());
            if has_ended {
                *place = None;
            }
        }
        if open.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
