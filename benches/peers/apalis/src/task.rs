//! The task itself: it counts itself, and returns what it got.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// The payload, as the harness says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Input {
    text: String,
    number: u64,
}

impl Input {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(serde_json::from_str(&std::env::var("PAYLOAD")?)?)
    }
}

pub(crate) async fn echo(input: Input) -> Result<Input, Failure> {
    count()?;
    Ok(input)
}

/// Without a result: there is nowhere to keep it.
pub(crate) async fn swallow(_input: Input) -> Result<(), Failure> {
    count()
}

/// One byte more in the file: its size is how many tasks have run.
fn count() -> Result<(), Failure> {
    static TALLY: OnceLock<File> = OnceLock::new();
    let mut tally = TALLY.get_or_init(|| {
        let path = std::env::var("TALLY").expect("the harness names the file");
        let file = File::options().append(true).create(true).open(path);
        file.expect("the harness's file can be written")
    });
    Ok(tally.write_all(b".")?)
}
