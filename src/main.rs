//! The program `longshore`.

use longshore::cli::{ExitStatus, run};

fn main() -> ExitStatus {
    run(std::env::args_os())
}
