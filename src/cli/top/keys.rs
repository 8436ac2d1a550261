//! What each key means, and what comes of it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::deed::Deed;
use super::model::{Events, Key, Mode, Model, Notice, Pane};
use crate::domain::{ExecutorId, ExecutorState, TaskId, TaskState};
use crate::store::QueueOverview;

/// Rows that a page has.
const PAGE: usize = 10;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Quit,
    Back,
    Help,
    NextPane,
    PreviousPane,
    To(Pane),
    Up(usize),
    Down(usize),
    First,
    Last,
    Show,
    Pause,
    Drain,
    Cancel,
    Resume,
    Yes,
    No,
    /// It means nothing.
    Nothing,
}

/// What is to be done outside of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Explain(TaskId),
    Do(Deed),
}

/// What `key` asks for in this mode.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a key that is not named means nothing"
)]
pub(super) fn intent(key: KeyEvent, mode: &Mode) -> Intent {
    if key.kind == KeyEventKind::Release {
        return Intent::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Intent::Quit,
            KeyCode::Char('u') => Intent::Up(PAGE),
            KeyCode::Char('d') => Intent::Down(PAGE),
            _ => Intent::Nothing,
        };
    }
    if matches!(mode, Mode::Asking(_)) {
        return match key.code {
            KeyCode::Char('y' | 'Y') => Intent::Yes,
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Intent::No,
            _ => Intent::Nothing,
        };
    }
    match key.code {
        KeyCode::Char('q') if *mode == Mode::Watching => Intent::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Intent::Back,
        KeyCode::Char('?') => Intent::Help,
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => Intent::NextPane,
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => Intent::PreviousPane,
        KeyCode::Char('1') => Intent::To(Pane::Queues),
        KeyCode::Char('2') => Intent::To(Pane::Executors),
        KeyCode::Char('3') => Intent::To(Pane::Tasks),
        KeyCode::Char('4') => Intent::To(Pane::Events),
        KeyCode::Up | KeyCode::Char('k') => Intent::Up(1),
        KeyCode::Down | KeyCode::Char('j') => Intent::Down(1),
        KeyCode::PageUp => Intent::Up(PAGE),
        KeyCode::PageDown => Intent::Down(PAGE),
        KeyCode::Home | KeyCode::Char('g') => Intent::First,
        KeyCode::End | KeyCode::Char('G') => Intent::Last,
        KeyCode::Enter => Intent::Show,
        KeyCode::Char('p') => Intent::Pause,
        KeyCode::Char('d') => Intent::Drain,
        KeyCode::Char('c') => Intent::Cancel,
        KeyCode::Char('r') => Intent::Resume,
        _ => Intent::Nothing,
    }
}

impl Model {
    /// What comes of an intent.
    pub(super) fn act(&mut self, intent: Intent) -> Option<Command> {
        match (&self.mode, intent) {
            (_, Intent::Quit) | (Mode::Watching, Intent::Back) => return Some(Command::Quit),
            (_, Intent::Nothing) => {}
            (Mode::Asking(deed), Intent::Yes) => {
                let deed = deed.clone();
                self.mode = Mode::Watching;
                self.say(Notice::good(deed.begun()));
                return Some(Command::Do(deed));
            }
            (Mode::Asking(_), _) => {
                self.mode = Mode::Watching;
                self.say(Notice::good("nothing was changed"));
            }
            (Mode::Help, Intent::Back | Intent::Help | Intent::Show) => self.mode = Mode::Watching,
            (_, Intent::Help) => self.mode = Mode::Help,
            (Mode::Help, _) => {}
            (Mode::Details { .. }, Intent::Back | Intent::Show) => self.mode = Mode::Watching,
            (
                Mode::Details { .. },
                Intent::Pause | Intent::Drain | Intent::Cancel | Intent::Resume,
            ) => {
                self.offer(intent);
            }
            (Mode::Details { .. }, _) => self.scroll(intent),
            (Mode::Watching, Intent::Show) => return self.show(),
            (Mode::Watching, Intent::Pause | Intent::Drain | Intent::Cancel | Intent::Resume) => {
                self.offer(intent);
            }
            (Mode::Watching, _) => self.go(intent),
        }
        None
    }

    fn go(&mut self, intent: Intent) {
        let panes = Pane::ALL.len();
        let pane = self.pane as usize;
        let row = self.selected(self.pane).unwrap_or(0);
        match intent {
            Intent::NextPane => self.pane = Pane::ALL[(pane + 1) % panes],
            Intent::PreviousPane => self.pane = Pane::ALL[(pane + panes - 1) % panes],
            Intent::To(pane) => self.pane = pane,
            Intent::Up(rows) => self.select(row.saturating_sub(rows)),
            Intent::Down(rows) => self.select(row.saturating_add(rows)),
            Intent::First => self.select(0),
            Intent::Last => self.select(usize::MAX),
            Intent::Quit
            | Intent::Back
            | Intent::Help
            | Intent::Show
            | Intent::Pause
            | Intent::Drain
            | Intent::Cancel
            | Intent::Resume
            | Intent::Yes
            | Intent::No
            | Intent::Nothing => {}
        }
    }

    fn scroll(&mut self, intent: Intent) {
        let Mode::Details { from, .. } = &mut self.mode else {
            return;
        };
        let rows = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX);
        if let Intent::Up(by) = intent {
            *from = from.saturating_sub(rows(by));
        } else if let Intent::Down(by) = intent {
            *from = from.saturating_add(rows(by));
        } else if intent == Intent::First {
            *from = 0;
        }
    }

    fn show(&mut self) -> Option<Command> {
        let key = self.selection()?;
        // An event is shown by its task: the rest of it is in its row.
        let key = self.task_of(&key).map_or(key, Key::Task);
        let command = self.task_of(&key).map(Command::Explain);
        self.mode = Mode::Details {
            key,
            from: 0,
            facts: None,
        };
        command
    }

    /// Asks for a deed, or says why it cannot be.
    fn offer(&mut self, intent: Intent) {
        let key = match &self.mode {
            Mode::Details { key, .. } => Some(key.clone()),
            Mode::Watching | Mode::Help | Mode::Asking(_) => self.selection(),
        };
        let deed = match (intent, key) {
            (Intent::Cancel, Some(key)) => self
                .task_of(&key)
                .map(Deed::Cancel)
                .ok_or("`c` cancels a task: select one below Tasks or Events"),
            (Intent::Resume, Some(Key::Queue(queue))) => self.resumption_of(&queue),
            (Intent::Resume, Some(key)) => self.resumption(&key),
            (Intent::Drain, Some(Key::Executor(executor))) => self.draining_of(executor),
            (Intent::Drain, _) => Err("`d` drains an executor: select one below Executors"),
            (Intent::Pause, Some(Key::Queue(queue))) => self.pause_of(&queue),
            (Intent::Pause, _) => Err("`p` pauses a queue: select one below Queues"),
            _ => Err("nothing is selected"),
        };
        match deed {
            Ok(deed) => self.mode = Mode::Asking(deed),
            Err(words) => self.say(Notice::bad(words)),
        }
    }

    fn pause_of(&self, queue: &str) -> Result<Deed, &'static str> {
        match self.queue(queue) {
            Some(queue) if queue.pause.is_none() => Ok(Deed::PauseQueue(queue.name.clone())),
            Some(_) => Err("the queue is paused already: `r` lets it go on"),
            None => Err("there is no such queue any more"),
        }
    }

    fn resumption_of(&self, queue: &str) -> Result<Deed, &'static str> {
        match self.queue(queue) {
            Some(queue) if queue.pause.is_some() => Ok(Deed::ResumeQueue(queue.name.clone())),
            Some(_) => Err("the queue is not paused: `p` pauses it"),
            None => Err("there is no such queue any more"),
        }
    }

    fn queue(&self, name: &str) -> Option<&QueueOverview> {
        self.queues()
            .iter()
            .find(|queue| queue.name.as_str() == name)
    }

    fn resumption(&self, key: &Key) -> Result<Deed, &'static str> {
        let task = self
            .task_of(key)
            .ok_or("`r` resumes a paused task: select one below Tasks")?;
        let known = self.tasks().iter().find(|one| one.id == task);
        if known.is_some_and(|one| one.state != TaskState::Paused) {
            return Err("only a paused task can be resumed");
        }
        Ok(Deed::Resume(task))
    }

    fn draining_of(&self, executor: ExecutorId) -> Result<Deed, &'static str> {
        match &self.events {
            Events::Never(_) => {
                return Err("without a broker nobody hears it: send SIGTERM to the process");
            }
            Events::Away(..) | Events::Blocked(_) => {
                return Err("the broker takes no messages now: send SIGTERM to the process");
            }
            Events::Come => {}
        }
        let known = self.executors().iter().find(|one| one.id == executor);
        match known {
            Some(one) if one.state == ExecutorState::Live => {
                Ok(Deed::Drain(executor, one.name.to_string()))
            }
            _ => Err("the executor is lost: its tasks are taken over"),
        }
    }
}
