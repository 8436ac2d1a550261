//! Private servers that end with the test process, however it ends.
//!
//! A keeper is a shell script that starts a server in a directory, writes the file `ready` there, and then
//! reads its standard input until that ends: when this process ends, the pipe does, and the keeper stops the
//! server and removes the directory.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start on a busy machine.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// A running private server.
pub(crate) struct Keeper {
    dir: PathBuf,
    child: Child,
}

impl Keeper {
    /// Starts `tests/services/<script>` with a fresh directory as its first argument, and `args` after it;
    /// returns once the server is ready.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server says that it is ready by a file only"
    )]
    pub(crate) fn start(script: &str, args: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("longshore-")
            .tempdir()
            .unwrap()
            .keep();
        let log = std::fs::File::create(dir.join("keeper.log")).unwrap();
        let mut child = Command::new("sh")
            .arg(script_path(script))
            .arg(&dir)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !dir.join("ready").exists() {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > START_PATIENCE {
                let said = std::fs::read_to_string(dir.join("keeper.log")).unwrap_or_default();
                panic!("{script} did not start; type `tests/run` to install what it needs\n{said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { dir, child }
    }

    /// What the keeper wrote into `ready`: the address.
    pub(crate) fn ready(&self) -> String {
        std::fs::read_to_string(self.dir.join("ready"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Runs `tests/services/<script>` on the server's directory: `sh SCRIPT DIR VERB`.
    pub(crate) async fn run(&self, script: &str, verb: &str) {
        // In a process group of its own: what it starts is not hit by a signal to the tests from a terminal, but ended
        // by the keeper.
        let ran = tokio::process::Command::new("sh")
            .arg(script_path(script))
            .arg(&self.dir)
            .arg(verb)
            .process_group(0)
            .stdin(Stdio::null())
            .status();
        let status = ran.await.unwrap();
        assert!(status.success(), "`{script} {verb}`: {status}");
    }

    /// Stops the server and waits until it is gone.
    pub(crate) fn stop(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn script_path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/services")
        .join(script)
}
