//! What can be typed after `top`.

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct TopArgs {
    /// Seconds between two looks at the store, from 0.2 to 3600. A store that answers slowly is asked more rarely.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub(super) interval: f64,
    /// Write what is to be seen once and end, as happens by itself when nobody sits at a terminal.
    #[arg(long)]
    pub(super) once: bool,
}
