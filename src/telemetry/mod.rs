//! The log of a process: events of `tracing`, written to standard error.
//!
//! No event holds a secret: addresses mask their passwords and payloads show their size only, in the types
//! that hold them.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{LogConfig, LogFormat};

/// What libraries say that we say ourselves, once and in our words: the broker's refusals, the store's notices.
const LIBRARIES: &str = "lapin=off,sqlx::postgres::notice=off";

/// Sets up the log of this process: to standard error, in colour if that is a terminal and `NO_COLOR` is unset.
///
/// Answers whether it did. A process that has a log already keeps it: ours, or that of the program which embeds us.
pub fn init(config: &LogConfig) -> bool {
    let is_coloured = std::io::stderr().is_terminal() && !config.no_color;
    let subscriber = subscriber(config, is_coloured, std::io::stderr);
    tracing::subscriber::set_global_default(subscriber).is_ok()
}

fn subscriber<W>(config: &LogConfig, is_coloured: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // It was checked when it was loaded; what it says of the libraries, it says after us, and wins.
    let filter = EnvFilter::new(format!("{LIBRARIES},{}", config.filter.as_str()));
    let layer = fmt::layer().with_writer(writer).with_ansi(is_coloured);
    let layer = match config.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    Registry::default().with(layer).with(filter)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(filter: &str, format: LogFormat, is_coloured: bool) -> String {
        let config = LogConfig {
            filter: filter.parse().unwrap(),
            format,
            no_color: false,
        };
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(&config, is_coloured, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(task.id = 7, "Claimed task `7`");
            tracing::debug!("Looked again");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_are_for_people_in_colour_only_where_there_is_some() {
        let plain = written("info", LogFormat::Text, false);
        assert!(
            plain.contains("INFO") && plain.contains("Claimed task `7` task.id=7"),
            "{plain}"
        );
        assert!(
            !plain.contains('\x1b') && !plain.contains("Looked"),
            "{plain}"
        );
        assert!(written("info", LogFormat::Text, true).contains('\x1b'));
        assert_eq!(written("warn", LogFormat::Text, false), "");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written("longshore=debug", LogFormat::Json, false);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["task.id"], 7);
        assert_eq!(lines[1]["message"], "Looked again");
    }

    #[test]
    fn a_second_log_is_refused_and_the_first_one_stays() {
        let config = LogConfig {
            filter: "off".parse().unwrap(),
            format: LogFormat::Text,
            no_color: true,
        };
        assert!(init(&config));
        assert!(!init(&config));
    }
}
