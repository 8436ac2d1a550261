//! The terminal: taken over at the beginning, given back at the end, whatever the end is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::background::Background;

/// How long the thread that reads keys may take to see that it shall end.
const KEYS_WAIT: Duration = Duration::from_millis(100);

/// Keys that may lie unread.
const KEYS_MAX: usize = 64;

/// The threads of connections that are still being made: they may panic when the process ends, and that is no news.
const CONNECTIONS: &str = "lapin-io-loop";

/// What comes from the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Key(KeyEvent),
    /// It has another size.
    Resized,
}

/// The terminal, as long as it is ours.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    is_broken: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal over. From now on a panic of any thread gives it back.
    pub(super) fn take() -> io::Result<Self> {
        let is_broken = Arc::new(AtomicBool::new(false));
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let (tell, flag) = (std::panic::take_hook(), Arc::clone(&is_broken));
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some(CONNECTIONS) {
                flag.store(true, Ordering::Relaxed);
                tell(panic); // It gives the terminal back first.
            }
        }));
        Ok(Self {
            terminal,
            is_broken,
        })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("a part of it has panicked"));
        }
        self.terminal.draw(draw).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Reads what is typed on a thread of its own, until `background` stops.
pub(super) fn read_keys(background: &Background) -> io::Result<mpsc::Receiver<io::Result<Input>>> {
    let (keys, typed) = mpsc::channel(KEYS_MAX);
    let stopping = background.clone();
    background.spawn_apart("longshore-keys", async move {
        while !stopping.is_stopping() {
            let input = match read() {
                Ok(None) => continue,
                Ok(Some(input)) => Ok(input),
                Err(error) => Err(error),
            };
            let is_over = input.is_err();
            if keys.send(input).await.is_err() || is_over {
                return;
            }
        }
    })?;
    Ok(typed)
}

fn read() -> io::Result<Option<Input>> {
    if !event::poll(KEYS_WAIT)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) => Some(Input::Key(key)),
        Event::Resize(..) => Some(Input::Resized),
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => None,
    })
}
