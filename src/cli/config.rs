//! `longshore config`.

use serde::Serialize;

use super::args::{Common, ConfigVerb, Flags};
use super::complaint::Complaint;
use super::output::Output;
use super::status::ExitStatus;

#[derive(Serialize)]
struct SettingJson {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    source: String,
}

pub(super) fn run(
    common: &Common,
    verb: &ConfigVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let ConfigVerb::Show = verb;
    let loaded = common.load(Flags::new())?;
    let settings: Vec<SettingJson> = loaded
        .explain()
        .iter()
        .map(|one| SettingJson {
            key: one.key.to_owned(),
            value: one.value.clone(),
            source: one.source.to_string(),
        })
        .collect();
    output.rows(&["SETTING", "VALUE", "SOURCE"], &settings, |setting| {
        vec![
            setting.key.clone(),
            setting.value.clone().unwrap_or_else(|| "-".to_owned()),
            setting.source.clone(),
        ]
    })?;
    Ok(ExitStatus::Done)
}
