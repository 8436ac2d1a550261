//! `longshore db`.

use super::args::{Common, DbVerb, Flags};
use super::complaint::Complaint;
use super::output::Output;
use super::process;
use super::status::ExitStatus;
use crate::store::SCHEMA_VERSION;

pub(super) async fn run(
    common: &Common,
    verb: DbVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    let store = config.store.address()?.open().await?;
    match verb {
        DbVerb::Migrate => {
            let before = store.schema_version().await?;
            store.migrate().await?;
            output.say(&match before {
                Some(SCHEMA_VERSION) => format!("the store has schema {SCHEMA_VERSION} already"),
                Some(before) => {
                    format!("migrated the store from schema {before} to {SCHEMA_VERSION}")
                }
                None => format!("created schema {SCHEMA_VERSION} in the store"),
            });
        }
    }
    store.close().await;
    Ok(ExitStatus::Done)
}
