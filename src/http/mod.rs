//! The HTTP interface. Bodies are the types of `wire`; errors are RFC 9457 problems with a hint.

mod callbacks;
mod follow;
mod health;
mod origin;
mod problem;
mod queues;
mod request;
mod schedules;
mod signals;
mod submit;
mod taps;
mod tasks;
mod verbs;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;

pub use problem::Problem;

use crate::broker::Broker;
use crate::client::Client;
use crate::store::Store;

/// Room in a request's body for what a submission says besides its input.
const SUBMISSION_ROOM: usize = 64 * 1024;

/// What the handlers work with. Clones share it.
#[derive(Clone)]
pub struct App {
    /// Submits and waits.
    pub client: Client,
    /// For readiness, and for lists.
    pub store: Arc<dyn Store>,
    /// For readiness, and for taps.
    pub broker: Arc<dyn Broker>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// All routes.
pub fn router(app: App) -> Router {
    let body_bytes_max = app.client.limits().bytes_max + SUBMISSION_ROOM;
    Router::new()
        .route("/v1/tasks", post(submit::submit).get(tasks::list))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/wait", get(tasks::wait))
        .route("/v1/tasks/{id}/tree", get(tasks::tree))
        .route("/v1/tasks/{id}/logs", get(tasks::logs))
        .route("/v1/tasks/{id}/events", get(follow::events))
        .route("/v1/tasks/{id}/why", get(tasks::why))
        .route("/v1/tasks/{id}/signals/{name}", post(signals::signal))
        .route("/v1/callbacks/{task}/{token}", post(callbacks::answer))
        .route("/v1/tasks/{id}/history", get(verbs::history))
        .route("/v1/tasks/{id}/cancel", post(verbs::cancel))
        .route("/v1/tasks/{id}/resume", post(verbs::resume))
        .route("/v1/tasks/{id}/skip", post(verbs::skip))
        .route("/v1/tasks/{id}/retry", post(verbs::retry))
        .route("/v1/tasks/{id}/abandon", post(verbs::abandon))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{name}/pause", post(queues::pause))
        .route("/v1/queues/{name}/resume", post(queues::resume))
        .route("/v1/executors", get(tasks::executors))
        .route("/v1/schedules", post(schedules::create))
        .route("/v1/schedules", get(schedules::list))
        .route("/v1/schedules/{name}", get(schedules::show))
        .route("/v1/schedules/{name}", delete(schedules::delete))
        .route("/v1/schedules/{name}/pause", post(schedules::pause))
        .route("/v1/schedules/{name}/resume", post(schedules::resume))
        .route("/v1/schedules/{name}/trigger", post(schedules::trigger))
        .route("/v1/taps", get(taps::listen))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(axum::middleware::from_fn(origin::check))
        .with_state(app)
}

/// Serves requests until `stop` resolves, and then those that are under way.
///
/// # Errors
///
/// What the listener's accept reports for good.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(app))
        .with_graceful_shutdown(stop)
        .await
}

/// Binds the address to listen on.
///
/// # Errors
///
/// The address is taken or not this host's: the sentence says which and what to change.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("cannot listen on `{address}` ({error}); choose another `--listen`"),
        )
    })
}
