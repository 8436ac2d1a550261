//! What is known, and where the operator is in it. Pure: snapshots, events and the time are arguments.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::deed::Deed;
use super::latency::Latencies;
use super::rates::Rates;
use crate::broker::Health;
use crate::domain::{ExecutorId, ExecutorRecord, ExecutorState, TaskId, TaskState};
use crate::store::{OpenTask, Overview, QueueOverview};
use crate::wire::{Event, EventKind};

/// Events that are kept to look back at.
pub(super) const EVENTS_MAX: usize = 500;

/// Queues whose rates are counted.
const QUEUES_MAX: usize = 1_000;

/// Letters of an event's text that are kept: whoever sends it may say anything.
const TEXT_MAX: usize = 200;

/// How long a notice is shown.
const NOTICE_DURATION: Duration = Duration::from_secs(10);

/// How long the store may be silent before that is said, at least.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What comes in from outside.
#[derive(Debug)]
pub(super) enum News {
    /// The store has answered, after so long.
    Looked(Box<Overview>, Duration),
    /// The store has not; why, for people.
    StoreAway(String),
    /// Something happened.
    Seen(Box<Event>),
    /// So many messages were not kept until we came to them.
    Missed(u64),
    /// What the broker is like now.
    Broker(Health),
    /// There will be no events; why, for people.
    NoEvents(String),
    /// What is known of a task.
    Explained(TaskId, Vec<(String, String)>),
    /// What became of a deed.
    Done(Notice),
    /// An executor, with its name, is asked to drain.
    Draining(ExecutorId, String),
}

/// Something said to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) words: String,
    pub(super) is_bad: bool,
}

impl Notice {
    pub(super) fn good(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            is_bad: false,
        }
    }

    pub(super) fn bad(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            is_bad: true,
        }
    }
}

/// Whether events come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Events {
    /// They come.
    Come,
    /// They come, and nothing can be said to others; why.
    Blocked(String),
    /// The broker is away since a moment; why.
    Away(Duration, String),
    /// There never are any; why.
    Never(String),
}

/// An event, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 0.
    pub(super) number: u64,
    pub(super) time: Timestamp,
    pub(super) kind: EventKind,
    pub(super) task: TaskId,
    pub(super) action: String,
    pub(super) queue: String,
    pub(super) attempt: Option<u32>,
    pub(super) words: String,
}

/// The parts of the screen that have rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Queues,
    Executors,
    Tasks,
    Events,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Queues, Self::Executors, Self::Tasks, Self::Events];
}

/// Which row, so that it stays the same when others come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Queue(String),
    Executor(ExecutorId),
    Task(TaskId),
    Event(u64),
}

/// What the keys are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Watching,
    Help,
    /// Shall it be done?
    Asking(Deed),
    /// One thing in full, from a line on; of a task what was found out.
    Details {
        key: Key,
        from: u16,
        facts: Option<Vec<(String, String)>>,
    },
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    /// On the monotonic clock of this process.
    pub(super) now: Duration,
    began: Duration,
    pub(super) interval: Duration,
    pub(super) overview: Option<Overview>,
    /// When the store answered last, and how long that took.
    answered: Option<(Duration, Duration)>,
    /// Why it has not since.
    pub(super) store_trouble: Option<String>,
    pub(super) broker: String,
    pub(super) events: Events,
    pub(super) lines: VecDeque<Line>,
    pub(super) heard: u64,
    pub(super) missed: u64,
    pub(super) rates: Rates,
    queue_rates: BTreeMap<String, Rates>,
    pub(super) latencies: Latencies,
    draining: Vec<ExecutorId>,
    pub(super) pane: Pane,
    /// For each pane the row that is selected: its place when it was last seen, and what it is.
    cursors: [(usize, Option<Key>); 4],
    pub(super) mode: Mode,
    notice: Option<(Duration, Notice)>,
}

impl Model {
    /// Nothing known yet. `broker` is its name for people.
    pub(super) fn new(now: Duration, interval: Duration, broker: &str, events: Events) -> Self {
        Self {
            now,
            began: now,
            interval,
            overview: None,
            answered: None,
            store_trouble: None,
            broker: broker.to_owned(),
            events,
            lines: VecDeque::new(),
            heard: 0,
            missed: 0,
            rates: Rates::new(now),
            queue_rates: BTreeMap::new(),
            latencies: Latencies::new(now),
            draining: Vec::new(),
            pane: Pane::Queues,
            cursors: Default::default(),
            mode: Mode::Watching,
            notice: None,
        }
    }

    /// Time goes on.
    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        self.rates.advance(now);
        self.latencies.advance(now);
        for rates in self.queue_rates.values_mut() {
            rates.advance(now);
        }
        if self
            .notice
            .as_ref()
            .is_some_and(|(said, _)| now.saturating_sub(*said) > NOTICE_DURATION)
        {
            self.notice = None;
        }
    }

    /// Something comes in.
    pub(super) fn hear(&mut self, news: News, now: Duration) {
        self.now = now;
        match news {
            News::Looked(overview, took) => self.look(*overview, took),
            News::StoreAway(reason) => self.store_trouble = Some(reason),
            News::Seen(event) => self.see(&event),
            News::Missed(count) => {
                self.missed += count;
                self.latencies.forget_open();
            }
            News::Broker(health) => self.hear_of_broker(health),
            News::NoEvents(reason) => self.events = Events::Never(reason),
            News::Explained(task, found) => {
                if let Mode::Details { key, facts, .. } = &mut self.mode
                    && *key == Key::Task(task)
                {
                    *facts = Some(found);
                }
            }
            News::Done(notice) => self.say(notice),
            News::Draining(executor, name) => {
                self.draining.retain(|one| *one != executor);
                self.draining.push(executor);
                self.say(Notice::good(format!("asked `{name}` to drain")));
            }
        }
        self.keep_rows();
    }

    fn hear_of_broker(&mut self, health: Health) {
        if matches!(self.events, Events::Never(_)) {
            return;
        }
        self.events = match (health, &self.events) {
            (Health::Up, _) => Events::Come,
            (Health::Blocked(reason), _) => Events::Blocked(reason),
            (Health::Down(reason), Events::Away(since, _)) => Events::Away(*since, reason),
            (Health::Down(reason), _) => Events::Away(self.now, reason),
        };
        if matches!(self.events, Events::Away(..)) {
            // What comes when it is back comes late.
            self.latencies.forget_open();
        }
    }

    fn look(&mut self, overview: Overview, took: Duration) {
        self.answered = Some((self.now, took));
        self.store_trouble = None;
        let names: Vec<&str> = overview
            .queues
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        self.queue_rates
            .retain(|name, _| names.contains(&name.as_str()));
        for name in names.into_iter().take(QUEUES_MAX) {
            if !self.queue_rates.contains_key(name) {
                let rates = Rates::new(self.began);
                self.queue_rates.insert(name.to_owned(), rates);
            }
        }
        let is_live = |id: &ExecutorId| {
            overview
                .executors
                .iter()
                .any(|one| one.id == *id && one.state == ExecutorState::Live)
        };
        self.draining.retain(is_live);
        self.overview = Some(overview);
        self.tick(self.now);
    }

    fn see(&mut self, event: &Event) {
        let now = self.now;
        let queue = event.data.queue.as_deref().unwrap_or_default();
        let ready = TaskState::Ready.as_str();
        match event.kind {
            EventKind::Created => {
                self.count(queue, |counts| &mut counts.created);
                // One that waits for a time or its turn would be told the length of that wait.
                if event.data.state.as_deref() == Some(ready) {
                    self.latencies.begin(event.task, now);
                }
            }
            EventKind::Succeeded => self.count(queue, |counts| &mut counts.succeeded),
            EventKind::Failed => self.count(queue, |counts| &mut counts.failed),
            EventKind::Cancelled => self.count(queue, |counts| &mut counts.cancelled),
            EventKind::Paused
            | EventKind::Suspended
            | EventKind::Skipped
            | EventKind::Retried
            | EventKind::Released
            | EventKind::Woken
            | EventKind::CancelRequested
            | EventKind::Signal
            | EventKind::Signalled
            | EventKind::AbandonRequested
            | EventKind::Progressed => {}
        }
        if matches!(
            event.kind,
            EventKind::Succeeded | EventKind::Failed | EventKind::Cancelled
        ) {
            self.latencies.end(event.task, now);
        }
        if self.lines.len() == EVENTS_MAX {
            self.lines.pop_back();
        }
        self.lines.push_front(line(self.heard, event));
        self.heard += 1;
    }

    fn count(&mut self, queue: &str, which: impl Fn(&mut super::rates::Counts) -> &mut u32) {
        let now = self.now;
        let of_queue = self.queue_rates.get_mut(queue);
        for rates in std::iter::once(&mut self.rates).chain(of_queue) {
            let count = which(rates.now(now));
            *count = count.saturating_add(1);
        }
    }

    /// Says something to the operator for a while.
    pub(super) fn say(&mut self, notice: Notice) {
        self.notice = Some((self.now, notice));
    }

    pub(super) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref().map(|(_, notice)| notice)
    }

    pub(super) fn is_draining(&self, executor: ExecutorId) -> bool {
        self.draining.contains(&executor)
    }

    /// Since when the store is silent, if it is for longer than it may be.
    pub(super) fn store_away(&self) -> Option<Duration> {
        let (answered, took) = self.answered.unwrap_or((self.began, Duration::ZERO));
        let silent = self.now.saturating_sub(answered);
        let may = SILENCE_MAX.max(pause(self.interval, took) + took * 3);
        (self.store_trouble.is_some() || silent > may).then_some(silent)
    }

    /// How long the store took to answer last.
    pub(super) fn took(&self) -> Option<Duration> {
        self.answered.map(|(_, took)| took)
    }

    /// What the store's clock says now.
    pub(super) fn store_now(&self) -> Option<Timestamp> {
        let (answered, _) = self.answered?;
        let then = self.overview.as_ref()?.identity.now;
        then.checked_add(self.now.saturating_sub(answered)).ok()
    }

    /// How long ago that was, by the store's clock.
    pub(super) fn age(&self, since: Timestamp) -> Duration {
        let now = self.store_now().unwrap_or(since);
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    }

    pub(super) fn queues(&self) -> &[QueueOverview] {
        self.overview.as_ref().map_or(&[], |seen| &seen.queues)
    }

    pub(super) fn executors(&self) -> &[ExecutorRecord] {
        self.overview.as_ref().map_or(&[], |seen| &seen.executors)
    }

    pub(super) fn tasks(&self) -> &[OpenTask] {
        self.overview.as_ref().map_or(&[], |seen| &seen.tasks)
    }

    /// How many tasks run for an executor.
    pub(super) fn busy(&self, executor: ExecutorId) -> u64 {
        let busy = self.overview.as_ref().map(|seen| &seen.busy);
        busy.and_then(|busy| busy.get(&executor)).map_or(0, |n| *n)
    }

    /// The slots of live executors for a queue.
    pub(super) fn slots(&self, queue: &QueueOverview) -> u64 {
        let live = self.executors().iter();
        let live = live.filter(|one| one.state == ExecutorState::Live);
        live.filter_map(|one| one.slots.get(&queue.name))
            .map(|slots| u64::from(*slots))
            .sum()
    }

    pub(super) fn queue_rates(&self, queue: &str) -> Option<&Rates> {
        self.queue_rates.get(queue)
    }

    /// The task that is `ready` for longest, and since when.
    pub(super) fn oldest(&self) -> Option<(&QueueOverview, Timestamp, Option<&OpenTask>)> {
        let queues = self.queues().iter();
        let oldest = queues.filter_map(|one| Some((one, one.oldest_ready_at?)));
        let (queue, since) = oldest.min_by_key(|(_, since)| *since)?;
        let is_it = |task: &&OpenTask| task.state == TaskState::Ready && task.since == since;
        Some((queue, since, self.tasks().iter().find(is_it)))
    }

    /// The name of an executor, for people; its id when it is not known.
    pub(super) fn executor_name(&self, id: ExecutorId) -> String {
        let known = self.executors().iter().find(|one| one.id == id);
        known.map_or_else(|| id.to_string(), |one| one.name.to_string())
    }

    /// How many rows a pane has.
    pub(super) fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Queues => self.queues().len(),
            Pane::Executors => self.executors().len(),
            Pane::Tasks => self.tasks().len(),
            Pane::Events => self.lines.len(),
        }
    }

    /// The row that is selected in a pane; `None` when it has none.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let rows = self.rows(pane);
        (rows > 0).then(|| self.cursors[pane as usize].0.min(rows - 1))
    }

    /// What is selected in the pane that has the keys.
    pub(super) fn selection(&self) -> Option<Key> {
        self.key_at(self.pane, self.selected(self.pane)?)
    }

    fn key_at(&self, pane: Pane, row: usize) -> Option<Key> {
        match pane {
            Pane::Queues => self
                .queues()
                .get(row)
                .map(|one| Key::Queue(one.name.to_string())),
            Pane::Executors => self.executors().get(row).map(|one| Key::Executor(one.id)),
            Pane::Tasks => self.tasks().get(row).map(|one| Key::Task(one.id)),
            Pane::Events => self.lines.get(row).map(|one| Key::Event(one.number)),
        }
    }

    /// Selects a row of the pane that has the keys.
    pub(super) fn select(&mut self, row: usize) {
        let row = row.min(self.rows(self.pane).saturating_sub(1));
        self.cursors[self.pane as usize] = (row, self.key_at(self.pane, row));
    }

    /// Rows have come and gone: what is selected stays so; when it is gone, its place does. Whoever is at the newest event
    /// stays at the newest.
    fn keep_rows(&mut self) {
        for pane in Pane::ALL {
            let (row, key) = &self.cursors[pane as usize];
            let row = *row;
            let found = match key {
                Some(Key::Event(_)) if row == 0 => None,
                // Their numbers go down by one from row to row.
                Some(Key::Event(number)) => self.lines.front().and_then(|newest| {
                    usize::try_from(newest.number - number)
                        .ok()
                        .filter(|row| *row < self.lines.len())
                }),
                Some(key) => {
                    (0..self.rows(pane)).find(|row| self.key_at(pane, *row).as_ref() == Some(key))
                }
                None => None,
            };
            let row = found.unwrap_or(row.min(self.rows(pane).saturating_sub(1)));
            self.cursors[pane as usize] = (row, self.key_at(pane, row));
        }
    }

    /// The task of a row, if it is one's.
    pub(super) fn task_of(&self, key: &Key) -> Option<TaskId> {
        match key {
            Key::Task(task) => Some(*task),
            Key::Event(number) => {
                let line = self.lines.iter().find(|line| line.number == *number);
                line.map(|line| line.task)
            }
            Key::Queue(_) | Key::Executor(_) => None,
        }
    }
}

/// How long to leave the store alone when it took so long: what is spent on looking is a fifth of its time at most.
pub(super) fn pause(interval: Duration, took: Duration) -> Duration {
    interval.max(took * 4)
}

fn line(number: u64, event: &Event) -> Line {
    let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
    let data = &event.data;
    let said = data.reason.as_deref().or(data.signal.as_deref());
    let progress = data.progress.as_ref().map(|one| {
        let total = one.total.map_or(String::new(), |all| format!(" of {all}"));
        format!("{}{total} {}", one.done, one.message)
    });
    Line {
        number,
        time: event.time,
        kind: event.kind,
        task: event.task,
        action: cut(data.action.as_deref().unwrap_or_default()),
        queue: cut(data.queue.as_deref().unwrap_or_default()),
        attempt: data.attempt,
        words: cut(said.unwrap_or(progress.as_deref().unwrap_or_default())),
    }
}
