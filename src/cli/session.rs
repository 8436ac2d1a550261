//! What a verb needs that submits, waits or cancels.

use super::complaint::Complaint;
use super::process;
use crate::client::Client;
use crate::config::Config;
use crate::runtime::Runtime;

/// A connection to the store, and to the broker where something is said or awaited.
pub(super) struct Session {
    runtime: Runtime,
    pub(super) client: Client,
}

impl Session {
    pub(super) async fn open(config: &Config) -> Result<Self, Complaint> {
        let runtime = process::connect(config, "web").await?;
        let client = runtime.client(process::client_settings(config)).await?;
        Ok(Self { runtime, client })
    }

    pub(super) async fn close(self) {
        let Self { runtime, client } = self;
        drop(client); // Its last words are said before the runtime stops.
        runtime.stop().await;
    }
}
