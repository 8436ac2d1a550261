//! What is stored of a task's steps, as one attempt goes through it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::asking::Asking;
use super::drive::Wakes;
use crate::action::Host;
use crate::domain::limits::STEPS_MAX;
use crate::domain::{
    Failure, SignalName, Step, StepKind, StepName, StepOutcome, StepProgress, WaitingFor,
};

/// The steps of a task in one attempt. Shared by the action's context and whoever polls the action.
pub struct Journal {
    host: Arc<dyn Host>,
    /// Whether a former attempt may have stored something.
    may_be_stored: bool,
    loaded: OnceCell<()>,
    state: Mutex<State>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct State {
    /// What former attempts have stored.
    steps: HashMap<StepName, Step>,
    /// Ends that the action has not been told of, by their place; those of this attempt are being stored.
    untold: BTreeMap<u32, StepName>,
    /// The last place of a former attempt: until all of them are told nothing new begins.
    former_last: u32,
    /// The last place that was given.
    last: u32,
    /// The names that the action has used.
    asked: HashSet<StepName>,
    /// How many steps of a kind got their name by their number.
    numbers: HashMap<String, u32>,
    parks: BTreeMap<u64, Park>,
    parks_made: u64,
    /// How often something happened outside that a wait may be about.
    nudges: u64,
    /// Whether the attempt is asked to stop.
    is_stopped: bool,
    /// Stored ends that were not told in their turn, because the action asked for something else.
    passed_over: BTreeSet<StepName>,
}

/// How the code of an action differs from what ran when its steps were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Steps that are stored and were not asked for.
    pub(crate) not_asked_for: BTreeSet<StepName>,
    /// Steps that were asked for, but after something that came later, or was not there, when they were stored.
    pub(crate) out_of_order: BTreeSet<StepName>,
}

/// An operation that cannot go on.
struct Park {
    reason: Reason,
    is_released: bool,
    /// Who is to be woken apart from the driver: an executor of futures within the action.
    waker: Option<Waker>,
}

/// What an operation waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// Until it is its turn to be told.
    Turn(u32),
    /// Until the action was told everything that is stored.
    Replay,
    /// For something outside, which may be far away.
    Outside(Outside),
    /// For the attempt to be stopped.
    Stop,
}

/// What happens outside, any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outside {
    pub(super) until: Option<Timestamp>,
    pub(super) signal: Option<SignalName>,
    pub(super) fan_out: Option<StepName>,
}

/// What an operation finds.
#[derive(Debug)]
pub(super) enum Found {
    /// It has ended before.
    Ended(StepOutcome),
    /// It has begun before: it waits until this time, after so many tries.
    Begun { tries: u32, due_at: Timestamp },
    /// It is new.
    New,
}

impl Journal {
    /// The journal of one attempt.
    pub(crate) fn new(host: Arc<dyn Host>, may_be_stored: bool) -> Arc<Self> {
        Arc::new(Self {
            host,
            may_be_stored,
            loaded: OnceCell::new(),
            state: Mutex::default(),
            wakes: Arc::default(),
        })
    }

    pub(super) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    pub(super) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the name that the action uses; an error when it was used before.
    pub(super) fn ask(&self, name: &StepName) -> Result<(), Failure> {
        let mut state = self.state();
        if state.asked.len() >= usize::try_from(STEPS_MAX).unwrap_or(usize::MAX) {
            return Err(Failure::fatal(format_args!(
                "the task has {STEPS_MAX} steps, and no more are kept; let sub-tasks do a part of it"
            )));
        }
        if state.asked.insert(name.clone()) {
            return Ok(());
        }
        Err(Failure::fatal(format_args!(
            "the step name `{name}` is used twice in one run: the stored outcome of one would be taken for the other's; \
             give each a name of its own, such as `{name}-2`"
        )))
    }

    /// The next name for a step that the action does not name.
    pub(super) fn numbered(&self, what: &str) -> StepName {
        let mut state = self.state();
        let number = state.numbers.entry(what.to_owned()).or_default();
        *number += 1;
        StepName::numbered(what, *number)
    }

    /// What is stored of the step `name`; returns when it may be told, or done.
    pub(super) async fn find(&self, name: &StepName, kind: StepKind) -> Result<Found, Failure> {
        self.load().await?;
        let stored = self.state().steps.get(name).cloned();
        if let Some(stored) = &stored
            && stored.kind != kind
        {
            return Err(Failure::fatal(format_args!(
                "`{name}` is stored as a {}, and the action asks for a {kind} of this name: its code has changed since; \
                 give what is new another name, or let tasks that began with the former code end with it",
                stored.kind
            ))
            .of_step(name.clone()));
        }
        match stored.map(|step| step.progress) {
            Some(StepProgress::Ended { place, outcome }) => {
                self.turn(place).await;
                Ok(Found::Ended(outcome))
            }
            Some(StepProgress::Waiting { tries, due_at }) => {
                self.park(Reason::Replay).await;
                Ok(Found::Begun { tries, due_at })
            }
            None => {
                self.park(Reason::Replay).await;
                Ok(Found::New)
            }
        }
    }

    async fn load(&self) -> Result<(), Failure> {
        let load = async || {
            if !self.may_be_stored {
                return Ok(());
            }
            let steps = self.asking(self.host.steps()).await?;
            let mut state = self.state();
            for step in steps {
                if let StepProgress::Ended { place, .. } = step.progress {
                    state.untold.insert(place, step.name.clone());
                    state.former_last = state.former_last.max(place);
                }
                state.steps.insert(step.name.clone(), step);
            }
            state.last = state.former_last;
            Ok::<(), Failure>(())
        };
        self.loaded.get_or_try_init(load).await.map(drop)
    }

    /// Gives the next place to a step that is about to end. Who has a later one is told later.
    pub(super) fn reserve(&self, name: &StepName) -> u32 {
        let mut state = self.state();
        state.last += 1;
        let place = state.last;
        state.untold.insert(place, name.clone());
        place
    }

    /// Takes a place back: the step has not ended.
    pub(super) fn give_back(&self, place: u32) {
        self.state().untold.remove(&place);
    }

    /// Returns when the action has been told of all that ended before `place`; then it is told of this.
    pub(super) async fn turn(&self, place: u32) {
        self.park(Reason::Turn(place)).await;
        self.state().untold.remove(&place);
    }

    /// The action let go of a step: it will not ask for its outcome any more.
    pub(super) fn let_go(&self, name: &StepName) {
        let mut state = self.state();
        let before = state.untold.len();
        state.untold.retain(|_, untold| untold != name);
        let is_changed = state.untold.len() != before;
        drop(state);
        if is_changed {
            self.wakes.wake_all();
        }
    }

    /// Counts what happens outside: taken before a look, and given to [`Journal::outside`] after it, nothing is missed.
    pub(super) fn nudges(&self) -> u64 {
        self.state().nudges
    }

    /// Waits for what happens outside, or until somebody should look again. Returns at once when something happened
    /// since `seen`.
    pub(super) async fn outside(&self, outside: Outside, seen: u64) {
        if self.state().nudges == seen {
            self.park(Reason::Outside(outside)).await;
        }
    }

    /// Something happened that waits may be about: they look again.
    pub(crate) fn nudge(&self) {
        let mut state = self.state();
        state.nudges += 1;
        for park in state.parks.values_mut() {
            if matches!(park.reason, Reason::Outside(_)) {
                park.release();
            }
        }
        drop(state);
        self.wakes.wake_all();
    }

    /// The attempt is asked to stop: who waits for that goes on.
    pub(crate) fn stop(&self) {
        self.state().is_stopped = true;
        self.wakes.wake_all();
    }

    /// Waits until the attempt is asked to stop; returns at once for whoever is not polled by the driver, and must find out
    /// otherwise.
    pub(crate) async fn until_stopped(&self) {
        let is_driven = poll_fn(|context| Poll::Ready(self.wakes.is_of(context.waker()))).await;
        if is_driven {
            self.park(Reason::Stop).await;
        }
    }

    /// The answer of the host to a question. While it has not come the action is not one that only waits, also when the
    /// action does not ask for it any more; once it has come, it does not matter whether the action ever does.
    pub(super) fn asking<'a, T>(
        &self,
        question: impl Future<Output = T> + Send + 'a,
    ) -> Asking<'a, T> {
        Asking::new(&self.wakes, question)
    }

    /// Waits until the reason to wait is gone.
    fn park(&self, reason: Reason) -> impl Future<Output = ()> + Send {
        let mut parked = Parked {
            journal: self,
            number: None,
        };
        poll_fn(move |context| parked.poll(&reason, context.waker()))
    }
}

/// A place among those that wait; given back when dropped.
struct Parked<'a> {
    journal: &'a Journal,
    number: Option<u64>,
}

impl Parked<'_> {
    fn poll(&mut self, reason: &Reason, waker: &Waker) -> Poll<()> {
        // The driver polls the action whenever one is released. Only who is polled by another waker has to be woken.
        let is_driver = self.journal.wakes.is_of(waker);
        let mut state = self.journal.state();
        let state = &mut *state;
        let Some(number) = self.number else {
            if state.is_gone(reason) {
                return Poll::Ready(());
            }
            state.parks_made += 1;
            self.number = Some(state.parks_made);
            state.parks.insert(
                state.parks_made,
                Park {
                    reason: reason.clone(),
                    is_released: false,
                    waker: (!is_driver).then(|| waker.clone()),
                },
            );
            return Poll::Pending;
        };
        match state.parks.get_mut(&number) {
            Some(park) if !park.is_released => {
                park.waker = (!is_driver).then(|| waker.clone());
                Poll::Pending
            }
            Some(_) | None => {
                state.parks.remove(&number);
                self.number = None;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.journal.state().parks.remove(&number);
        }
    }
}

impl Park {
    fn release(&mut self) {
        self.is_released = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl State {
    /// Whether there is no reason to wait.
    fn is_gone(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Turn(place) => self
                .untold
                .first_key_value()
                .is_none_or(|(first, _)| first >= place),
            Reason::Replay => !self.is_replaying(),
            Reason::Outside(_) => false,
            Reason::Stop => self.is_stopped,
        }
    }

    /// Whether the action has not been told everything that former attempts have stored.
    fn is_replaying(&self) -> bool {
        let first = self.untold.first_key_value();
        first.is_some_and(|(first, _)| *first <= self.former_last)
    }
}

/// What the driver sees of an action that cannot go on by itself.
#[derive(Debug)]
pub(super) enum Standing {
    /// Something may go on: the action is to be polled again.
    GoesOn,
    /// The action was not told all that is stored, and does not ask for what would be next.
    Stalled,
    /// It waits for what happens outside.
    Waits {
        waiting_for: WaitingFor,
        /// When the first of its times comes.
        first_due: Option<Timestamp>,
    },
    /// It waits for nothing that is known here.
    Unknown,
}

impl Journal {
    /// Lets go on what may, and says how the action stands. `now` is the store's time.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let mut state = self.state();
        let state = &mut *state;
        let mut released: Vec<u64> = Vec::new();
        let (mut waiting_for, mut first_due, mut is_stalled) = (WaitingFor::default(), None, false);
        for (number, park) in &state.parks {
            match &park.reason {
                // It was let go on before, and the action holds it without asking for it.
                _ if park.is_released => {}
                reason if state.is_gone(reason) => released.push(*number),
                Reason::Outside(outside) => {
                    if outside.until.is_some_and(|until| until <= now) {
                        released.push(*number);
                        continue;
                    }
                    waiting_for.signals.extend(outside.signal.clone());
                    waiting_for.fan_outs.extend(outside.fan_out.clone());
                    if let Some(until) = outside.until {
                        waiting_for.has_timer = true;
                        first_due = Some(first_due.map_or(until, |due: Timestamp| due.min(until)));
                    }
                }
                Reason::Turn(_) | Reason::Replay => is_stalled = true,
                Reason::Stop => {}
            }
        }
        for number in &released {
            if let Some(park) = state.parks.get_mut(number) {
                park.release();
            }
        }
        match (released.is_empty(), is_stalled) {
            (false, _) => Standing::GoesOn,
            (true, true) => Standing::Stalled,
            (true, false) if waiting_for.is_empty() => Standing::Unknown,
            (true, false) => Standing::Waits {
                waiting_for,
                first_due,
            },
        }
    }

    /// Gives up telling the next end, which the action does not ask for: its code has changed. Which step it was.
    pub(super) fn skip(&self) -> Option<StepName> {
        let mut state = self.state();
        let (_, name) = state.untold.pop_first()?;
        state.passed_over.insert(name.clone());
        Some(name)
    }

    /// How the action differs from the one whose steps are stored, once it has ended.
    pub(crate) fn changes(&self) -> Changes {
        let state = self.state();
        let is_asked_for = |name: &&StepName| state.asked.contains(*name);
        Changes {
            not_asked_for: (state.steps.keys())
                .filter(|name| !is_asked_for(name))
                .cloned()
                .collect(),
            out_of_order: (state.passed_over.iter())
                .filter(is_asked_for)
                .cloned()
                .collect(),
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}
