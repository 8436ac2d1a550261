//! Whether this process lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::App;
use crate::broker::Health;
use crate::store::{SCHEMA_VERSION, StoreError};

/// What is needed, part by part.
#[derive(Serialize)]
pub(super) struct Readiness {
    ready: bool,
    store: String,
    broker: String,
}

/// `GET /livez`: the process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// `GET /readyz`: 200 when the store answers and the broker is connected, 503 with the reason otherwise.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let store = app.store.schema_version().await;
    let broker = app.broker.health().borrow().clone();
    let store = match store {
        Ok(Some(SCHEMA_VERSION)) => Ok(()),
        Ok(found) => Err(StoreError::Schema {
            found,
            expected: SCHEMA_VERSION,
        }),
        Err(error) => Err(error),
    };
    let ready = store.is_ok() && broker == Health::Up;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let store = store.map_or_else(|error| error.to_string(), |()| "up".to_owned());
    let broker = match broker {
        Health::Up => "up".to_owned(),
        Health::Blocked(reason) => format!("it takes no messages: {reason}"),
        Health::Down(reason) => format!("it is away: {reason}"),
    };
    (
        status,
        Json(Readiness {
            ready,
            store,
            broker,
        }),
    )
}
