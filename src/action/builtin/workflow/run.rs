//! Runs a document: each step is a sub-task that is spawned by the step's name, and joined.
//!
//! **Everything is the same when it runs again.** What one branch does because of another goes by the order in which joins
//! and other stored steps end, never by when the store answers: that a step failed is told by its join (or by a stored step
//! of its own), and outputs are read only afterwards, by those who need them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::document::{Block, Document, Rescue, Step};
use super::expression::{Expression, Values, is_true};
use super::together::{Part, together};
use crate::action::{Context, Subtasks};
use crate::domain::{Failure, FailurePolicy, FanOutPlan, Payload, Submission, Task, TaskState};

/// The label that says which step a task is.
const STEP_LABEL: &str = "step";

/// Runs `document` in the task of `context`.
pub(super) async fn run(context: &Context, document: &Document) -> Result<Value, Failure> {
    let run = Run {
        context,
        document,
        ended: Mutex::default(),
        read: Mutex::default(),
    };
    let nothing = Value::Null;
    let lane = Lane::new(&nothing);
    run.block(&document.run, &lane).await;
    let mut failed = lane.into_failed();
    let error = match &failed {
        Some(failed) => run.error_of(failed).await?,
        None => Value::Null,
    };
    for block in &document.finally {
        let lane = Lane::new(&error);
        run.block(block, &lane).await;
        // The first failure is the cause; later ones may be its consequences.
        failed = failed.or(lane.into_failed());
    }
    match failed {
        Some(failed) => Err(run.failure(&failed).await?),
        None => run.output().await,
    }
}

/// One run of a document.
struct Run<'a> {
    context: &'a Context,
    document: &'a Document,
    ended: Mutex<BTreeMap<&'a str, Ended>>,
    /// Outputs and errors that were read.
    read: Mutex<BTreeMap<&'a str, Arc<(Value, Value)>>>,
}

/// What became of a step that ran.
#[derive(Debug, Clone)]
enum Ended {
    /// Its only task has ended.
    One(Subtasks),
    /// Its tasks have, one for each of a list.
    Each(Subtasks),
    /// Somebody said its output instead.
    Given(Value),
    /// It could not begin, and the workflow goes on without it.
    Refused(Failure),
}

/// Steps of which none begins after one has failed.
struct Lane<'a> {
    failed: Mutex<Option<Failed<'a>>>,
    /// What has failed before: for the steps of `finally`.
    error: &'a Value,
}

/// A step that has failed.
struct Failed<'a> {
    step: &'a str,
    /// What it failed with, when that was not its task.
    cause: Option<Failure>,
}

/// What is to be done for a step.
enum Wish {
    /// Nothing: its condition does not hold.
    Nothing,
    One(Box<Submission>),
    Each(Vec<Submission>),
}

impl<'a> Lane<'a> {
    fn new(error: &'a Value) -> Self {
        Self {
            failed: Mutex::default(),
            error,
        }
    }

    fn fail(&self, step: &'a str, cause: Option<Failure>) {
        locked(&self.failed).get_or_insert(Failed { step, cause });
    }

    fn has_failed(&self) -> bool {
        locked(&self.failed).is_some()
    }

    fn into_failed(self) -> Option<Failed<'a>> {
        self.failed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Run<'a> {
    fn block<'s>(&'s self, block: &'a Block, lane: &'s Lane<'a>) -> Part<'s>
    where
        'a: 's,
    {
        Box::pin(async move {
            match block {
                Block::Sequence(blocks) => {
                    for block in blocks {
                        self.block(block, lane).await;
                    }
                }
                Block::Concurrence(blocks) => {
                    let parts = blocks.iter().map(|block| self.block(block, lane));
                    together(parts.collect()).await;
                }
                Block::Step(step) => {
                    if !lane.has_failed() {
                        self.step(step, lane).await;
                    }
                }
            }
        })
    }

    async fn step(&self, step: &'a Step, lane: &Lane<'a>) {
        match self.wish(step, lane.error).await {
            Ok(Wish::Nothing) => {}
            Ok(Wish::One(submission)) => {
                self.tasks(step, lane, vec![*submission], Ended::One).await;
            }
            Ok(Wish::Each(submissions)) => {
                self.tasks(step, lane, submissions, Ended::Each).await;
            }
            Err(failure) => self.refused(step, lane, &step.name, failure).await,
        }
    }

    /// A step cannot begin, so it has no task that could fail or be paused. Stored as `name`, so that the next attempt sees
    /// it in its turn.
    async fn refused(&self, step: &'a Step, lane: &Lane<'a>, name: &str, failure: Failure) {
        let refused = || async {
            if step.rescue == Rescue::Pause {
                let said = format!(
                    "-- the step `{}` cannot begin: {}; the workflow waits for the signal `{}`, which says its output, or to be \
                     cancelled --",
                    step.name,
                    failure.message,
                    skip_signal(step)
                );
                self.context.log(said).await;
            }
            Err::<(), _>(failure)
        };
        let Err(failure) = self.context.step(name, refused).await else {
            return;
        };
        let ended = match step.rescue {
            Rescue::Fail => return lane.fail(&step.name, Some(failure)),
            Rescue::Skip => Ended::Refused(failure),
            Rescue::Pause => match self.context.wait_for(&skip_signal(step)).await {
                Ok(output) => Ended::Given(output),
                Err(failure) => return lane.fail(&step.name, Some(failure)),
            },
        };
        locked(&self.ended).insert(&step.name, ended);
    }

    /// Runs the tasks of a step.
    async fn tasks(
        &self,
        step: &'a Step,
        lane: &Lane<'a>,
        submissions: Vec<Submission>,
        ended: fn(Subtasks) -> Ended,
    ) {
        let on_failure = match (&step.for_each, step.rescue) {
            (Some(_), Rescue::Fail) => FailurePolicy::FailFast,
            _ => FailurePolicy::Collect,
        };
        let plan = FanOutPlan {
            in_flight_max: step.in_flight_max,
            on_failure,
        };
        let spawned = self.context.spawn_all(&step.name, submissions, plan).await;
        let subtasks = match spawned {
            Ok(subtasks) => subtasks,
            Err(failure) => {
                let name = format!("{}#refused", step.name);
                return self.refused(step, lane, &name, failure).await;
            }
        };
        let has_failed = match step.rescue {
            Rescue::Pause => {
                let skip = skip_signal(step);
                tokio::select! {
                    biased;
                    joined = self.context.join(&subtasks) => !joined.is_ok_and(|joined| joined.failed == 0),
                    given = self.context.wait_for::<Value>(&skip) => {
                        return self.skipped(step, lane, &subtasks, given).await;
                    }
                }
            }
            Rescue::Fail | Rescue::Skip => {
                let joined = self.context.join(&subtasks).await;
                !joined.is_ok_and(|joined| joined.failed == 0)
            }
        };
        locked(&self.ended).insert(&step.name, ended(subtasks));
        if has_failed && step.rescue != Rescue::Skip {
            lane.fail(&step.name, None);
        }
    }

    /// Somebody lets the workflow go on without a step.
    async fn skipped(
        &self,
        step: &'a Step,
        lane: &Lane<'a>,
        subtasks: &Subtasks,
        given: Result<Value, Failure>,
    ) {
        match given {
            Ok(output) => {
                locked(&self.ended).insert(&step.name, Ended::Given(output));
                // Done again when the workflow runs again: what has ended stays as it is.
                drop(subtasks.cancel().await);
            }
            Err(failure) => lane.fail(&step.name, Some(failure)),
        }
    }

    /// What is to be done for `step`, with everything in it that refers to something else.
    async fn wish(&self, step: &Step, error: &Value) -> Result<Wish, Failure> {
        let steps = self.referred_to(step.expressions()).await?;
        let mut values = Values {
            input: &self.document.input,
            steps,
            item: None,
            error,
        };
        let path = &step.path;
        let at =
            |key: &str, problem: String| Failure::fatal(format_args!("{path}.{key}: {problem}"));
        if let Some(condition) = &step.condition {
            let value = condition
                .value(&values)
                .map_err(|problem| at("if", problem))?;
            if !is_true(&value) {
                return Ok(Wish::Nothing);
            }
        }
        let submission = |values: &Values<'_>| {
            let value = step.input.value(values);
            submission(step, &value.map_err(|problem| at("input", problem))?)
        };
        let Some(for_each) = &step.for_each else {
            return Ok(Wish::One(Box::new(submission(&values)?)));
        };
        let items = match for_each.value(&values) {
            Ok(Value::Array(items)) => items,
            Ok(Value::Null) => Vec::new(),
            Ok(_) => return Err(at("for_each", "it is not a list".to_owned())),
            Err(problem) => return Err(at("for_each", problem)),
        };
        let mut submissions = Vec::new();
        for item in &items {
            values.item = Some(item);
            submissions.push(submission(&values)?);
        }
        Ok(Wish::Each(submissions))
    }

    /// The outputs and errors of the steps that `expressions` refer to.
    async fn referred_to<'e>(
        &self,
        expressions: impl Iterator<Item = &'e Expression>,
    ) -> Result<BTreeMap<String, (Value, Value)>, Failure> {
        let references = expressions.flat_map(Expression::references);
        let names: BTreeSet<&str> = references.filter_map(|one| one.step()).collect();
        let mut found = BTreeMap::new();
        for name in names {
            let (output, error) = self.result(name).await?.as_ref().clone();
            found.insert(name.to_owned(), (output, error));
        }
        Ok(found)
    }

    /// The output and the error of a step; null for one that did not run.
    async fn result(&self, name: &str) -> Result<Arc<(Value, Value)>, Failure> {
        if let Some(known) = locked(&self.read).get(name) {
            return Ok(Arc::clone(known));
        }
        let known = locked(&self.ended)
            .get_key_value(name)
            .map(|(name, ended)| (*name, ended.clone()));
        let Some((name, ended)) = known else {
            return Ok(Arc::default());
        };
        let read = Arc::new(match ended {
            Ended::Given(output) => (output, Value::Null),
            Ended::Refused(failure) => (Value::Null, json!({"message": failure.message})),
            Ended::One(subtasks) => match subtasks.results().next().await? {
                Some(task) => (output_of(&task)?, error_of(&task)?),
                None => (Value::Null, Value::Null),
            },
            Ended::Each(subtasks) => {
                let (mut results, mut outputs) = (subtasks.results(), Vec::new());
                let mut first = Value::Null;
                while let Some(task) = results.next().await? {
                    outputs.push(output_of(&task)?);
                    // Rather one that failed by itself than one that was cancelled for it.
                    if first.is_null()
                        || task.state == TaskState::Failed && first["state"] != "failed"
                    {
                        first = error_of(&task)?;
                    }
                }
                (Value::Array(outputs), first)
            }
        });
        locked(&self.read).insert(name, Arc::clone(&read));
        Ok(read)
    }

    /// What `error` stands for.
    async fn error_of(&self, failed: &Failed<'_>) -> Result<Value, Failure> {
        let mut error = Map::from_iter([("step".to_owned(), json!(failed.step))]);
        if let Some(cause) = &failed.cause {
            error.insert("message".to_owned(), json!(cause.message));
        } else {
            let result = self.result(failed.step).await?;
            error.extend(result.1.as_object().cloned().unwrap_or_default());
        }
        Ok(Value::Object(error))
    }

    /// What the workflow fails with.
    async fn failure(&self, failed: &Failed<'_>) -> Result<Failure, Failure> {
        let error = self.error_of(failed).await?;
        let message = error["message"]
            .as_str()
            .unwrap_or("its task has not succeeded");
        let step = failed.step;
        let task = match error["task"].as_str() {
            Some(task) => format!(" (task `{task}`)"),
            None => String::new(),
        };
        let sentence = format_args!("the step `{step}` failed{task}: {message}");
        Ok(Failure::fatal(sentence).with_detail(&error))
    }

    /// What the workflow returns.
    async fn output(&self) -> Result<Value, Failure> {
        if let Some(output) = &self.document.output {
            let values = Values {
                input: &self.document.input,
                steps: self.referred_to(std::iter::once(output)).await?,
                item: None,
                error: &Value::Null,
            };
            let problem = |problem| Failure::fatal(format_args!("output: {problem}"));
            return output.value(&values).map_err(problem);
        }
        let mut outputs = Map::new();
        for step in self.document.steps() {
            let result = self.result(&step.name).await?;
            outputs.insert(step.name.clone(), result.0.clone());
        }
        Ok(Value::Object(outputs))
    }
}

/// The signal that says the output of a step with `rescue: pause`.
fn skip_signal(step: &Step) -> String {
    format!("skip.{}", step.name)
}

fn submission(step: &Step, input: &Value) -> Result<Submission, Failure> {
    let mut submission = Submission {
        input: Payload::of(input)
            .map_err(|error| Failure::fatal(format_args!("{}.input: {error}", step.path)))?,
        ..step.template.clone()
    };
    let labels = &mut submission.labels;
    labels
        .entry(STEP_LABEL.to_owned())
        .or_insert_with(|| step.name.clone());
    Ok(submission)
}

fn output_of(task: &Task) -> Result<Value, Failure> {
    match (&task.output, task.state) {
        (Some(output), TaskState::Succeeded) => Ok(output.decode().map_err(Failure::fatal)?),
        _ => Ok(Value::Null),
    }
}

/// Why a task has not succeeded; null when it has.
fn error_of(task: &Task) -> Result<Value, Failure> {
    if task.state == TaskState::Succeeded {
        return Ok(Value::Null);
    }
    let error = task.error.as_ref();
    let mut said = json!({
        "task": task.id.to_string(),
        "action": task.action.as_str(),
        "state": task.state.as_str(),
        "message": error.map_or("it has not ended", |error| &error.message),
    });
    if let Some(detail) = error.and_then(|error| error.detail.as_ref()) {
        said["detail"] = detail.decode().map_err(Failure::fatal)?;
    }
    Ok(said)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
