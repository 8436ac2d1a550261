//! Whether this process lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::App;
use crate::broker::{Broker, BrokerError, Health};
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

/// `GET /readyz`: 200 when the store answers and the broker brings back a message, 503 with the reason otherwise.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let (store, broker) = tokio::join!(app.store.schema_version(), broker(&*app.broker));
    let store = match store {
        Ok(Some(SCHEMA_VERSION)) => Ok(()),
        Ok(found) => Err(StoreError::Schema {
            found,
            expected: SCHEMA_VERSION,
        }),
        Err(error) => Err(error),
    };
    let ready = store.is_ok() && broker.is_ok();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let store = store.map_or_else(|error| error.to_string(), |()| "up".to_owned());
    let broker = broker.map_or_else(|reason| reason, |()| "up".to_owned());
    (
        status,
        Json(Readiness {
            ready,
            store,
            broker,
        }),
    )
}

/// Why the broker cannot be used, if so.
async fn broker(broker: &dyn Broker) -> Result<(), String> {
    let standing = || match &*broker.health().borrow() {
        Health::Up => Ok(()),
        Health::Blocked(reason) => Err(format!("it takes no messages: {reason}")),
        Health::Down(reason) => Err(format!("it is away: {reason}")),
    };
    standing()?;
    match broker.prove().await {
        Ok(()) => Ok(()),
        // It may have told of itself meanwhile why.
        Err(BrokerError::Unavailable { reason }) => {
            standing().and(Err(format!("it is away: {reason}")))
        }
        Err(error) => standing().and(Err(error.to_string())),
    }
}
