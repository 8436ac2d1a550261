//! Commands that run until a test lets them go on, and that leave a line for each run.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually::eventually_within;
use super::fleet::Fleet;

/// How long a run may be waited for: a lease, a look of a housekeeper, and a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command that notes its process id in the file `NAME.runs`, runs until its gate is open, and says its process id.
/// A run whose executor was killed goes on without it; it ends when the fleet's folder is gone.
pub(crate) fn gated(fleet: &Fleet, name: &str) -> Value {
    let is_open = format!("[ -e {name}.go ] || [ -e {name}.go.$$ ] || [ ! -e {name}.runs ]");
    let script = format!("echo $$ >> {name}.runs; until {is_open}; do sleep 0.05; done; echo $$");
    let input = json!({"program": "sh", "args": ["-c", script], "dir": fleet.path("")});
    json!({"action": "command", "input": input})
}

/// Lets all runs of a command go on.
pub(crate) fn open_gate(fleet: &Fleet, name: &str) {
    fs::write(fleet.path(&format!("{name}.go")), "").unwrap();
}

/// Lets one run of a command go on: that of the process `pid`.
pub(crate) fn open_gate_for(fleet: &Fleet, name: &str, pid: &str) {
    fs::write(fleet.path(&format!("{name}.go.{pid}")), "").unwrap();
}

/// The process ids that the runs of a command have noted so far, in order.
pub(crate) fn runs(fleet: &Fleet, name: &str) -> Vec<String> {
    let noted = fs::read_to_string(fleet.path(&format!("{name}.runs"))).unwrap_or_default();
    noted.lines().map(str::to_owned).collect()
}

/// The same once there are `count`.
pub(crate) async fn pids(fleet: &Fleet, name: &str, count: usize) -> Vec<String> {
    let what = format!("`{name}` runs for the {count}. time");
    let look = async || runs(fleet, name);
    eventually_within(PATIENCE, &what, look, |pids| pids.len() == count).await
}

/// What a run of the process `pid` has for a result.
pub(crate) fn result_of(pid: &str) -> Value {
    json!(format!("{pid}\n"))
}
