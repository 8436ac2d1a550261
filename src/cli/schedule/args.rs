//! What can be typed after `schedule`.

use clap::{ArgGroup, Args, Subcommand};

use crate::cli::args::SubmissionFlags;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ScheduleVerb {
    /// Makes a schedule: when it fires, and the task that each firing submits.
    ///
    /// It says when by one of `--cron`, `--every` and `--at`. Each firing submits a task of its own, which has the label
    /// `schedule=NAME`. Any live executor lets it fire; however many there are, each time fires once. Asked for twice, the
    /// same schedule is made once.
    #[command(after_help = "Examples:\n  \
        longshore schedule create nightly --cron '0 3 * * *' --time-zone Europe/Prague command '[\"backup\"]'\n  \
        longshore schedule create poll --every 15m --overlap skip --timeout 600 feeds.poll\n  \
        longshore schedule create party --at 2026-12-24T18:00:00Z echo '\"merry\"'\n\n\
        Cron has 5 fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of week (0-7 or \
        SUN-SAT). Each is `*`, numbers and ranges joined by commas, and steps: `*/15`, `9-17/2`. If both days are said, \
        either will do. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are understood. A time of day that \
        clocks skip fires right after the gap, and one that they show twice fires once.")]
    Create(Box<CreateArgs>),
    /// Lists schedules, by name.
    List(ListArgs),
    /// Shows a schedule: its next five firings, and the last ones with their tasks.
    Show {
        /// The schedule's name.
        name: String,
        /// How many of the last firings to show, up to 200.
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        firings: usize,
    },
    /// Stops a schedule from firing until it is resumed. Tasks that it has submitted go on.
    Pause {
        /// The schedule's name.
        name: String,
    },
    /// Lets a schedule fire again. What was due while it was paused is dropped.
    Resume {
        /// The schedule's name.
        name: String,
    },
    /// Lets a schedule fire now, out of turn, paused or not. Its overlap policy holds.
    Trigger {
        /// The schedule's name.
        name: String,
    },
    /// Deletes a schedule. Tasks that it has submitted stay.
    Delete {
        /// The schedule's name.
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").args(["cron", "every", "at"]).required(true))]
pub(in crate::cli) struct CreateArgs {
    /// What to call it: letters, digits, `_`, `-` and `.`, at most 64.
    pub(super) name: String,
    /// The action that each firing runs.
    pub(super) action: String,
    /// Its input, JSON: as text, `@FILE`, or `-` for stdin [default: null].
    pub(super) input: Option<String>,
    /// Fires by the clocks of `--time-zone`: five fields, or a shortcut such as `@daily`.
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) cron: Option<String>,
    /// On whose clocks `--cron` goes, such as `Europe/Prague` [default: UTC].
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub(super) time_zone: Option<String>,
    /// Fires again and again after this time: `90s`, `15m`, `12h`, `7d`, or a number of seconds.
    #[arg(long, value_name = "DURATION")]
    pub(super) every: Option<String>,
    /// A time at which a firing of `--every` falls: RFC 3339 [default: when the schedule is made].
    #[arg(long, value_name = "TIME", requires = "every")]
    pub(super) anchor: Option<String>,
    /// Fires once, at this time: RFC 3339, such as `2026-12-24T18:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// What a firing does while the previous task is open: `skip`, `queue` (wait for it) or `cancel_previous`
    /// [default: skip].
    #[arg(long, value_name = "POLICY")]
    pub(super) overlap: Option<String>,
    /// What is done about firings that were missed, because nothing ran: `none`, `last` (one for all of them) or `all`
    /// (each, at most 100) [default: last].
    #[arg(long, value_name = "POLICY")]
    pub(super) catch_up: Option<String>,
    #[command(flatten)]
    pub(super) flags: SubmissionFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Behind this schedule: the last name of the page before.
    #[arg(long, value_name = "NAME")]
    pub(super) cursor: Option<String>,
    /// How many at most, up to 1000.
    #[arg(long, default_value_t = 50)]
    pub(super) limit: usize,
}
