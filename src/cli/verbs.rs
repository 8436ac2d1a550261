//! `longshore task resume`, `skip`, `retry`, `abandon` and `cancel`: on one task, or on all that match.

use std::io::{BufRead, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::args::Which;
use super::complaint::Complaint;
use super::condition::Condition;
use super::output::{Format, Output};
use super::session::Session;
use super::status::ExitStatus;
use crate::client::{Client, ClientError};
use crate::config::{Config, env};
use crate::domain::{Operator, Payload, TaskId, TaskState, VerbKind, note};
use crate::store::{Cancelled, List, Operated};

/// Tasks that are read at once. Their payloads come with them.
const PAGE: usize = 100;

/// What is done to tasks.
#[derive(Debug)]
pub(super) enum Act {
    Resume,
    /// With what the step returns.
    Skip(Payload),
    Retry,
    /// For this reason.
    Abandon(String),
    /// For this reason.
    Cancel(String),
}

/// What became of one task.
enum Acted {
    Unknown,
    /// It has moved, and is in this state.
    Done(TaskState),
    /// A copy of it runs.
    Copied(TaskId),
    /// It runs, and was asked to stop; beside it so many were cancelled, and so many asked.
    Cancelled {
        ended: usize,
        stopping: usize,
    },
    /// Nothing was changed.
    LeftAlone {
        why: String,
        hint: Option<&'static str>,
    },
}

/// What became of one task, in JSON.
#[derive(Serialize)]
struct ActedJson {
    id: String,
    /// What was done: `resumed`, or `left alone`.
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// The id of the copy that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<String>,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What became of many tasks, in JSON.
#[derive(Serialize)]
struct SummaryJson {
    what: &'static str,
    done: u64,
    left_alone: u64,
}

const LEFT_ALONE: &str = "left alone";

impl Act {
    /// The word for what was done.
    const fn done(&self) -> &'static str {
        match self {
            Self::Resume => VerbKind::Resume.done(),
            Self::Skip(_) => VerbKind::Skip.done(),
            Self::Retry => VerbKind::Retry.done(),
            Self::Abandon(_) => VerbKind::Abandon.done(),
            Self::Cancel(_) => "cancelled",
        }
    }

    /// The states of tasks that it can be done to.
    fn states(&self) -> Vec<TaskState> {
        match self {
            Self::Resume => VerbKind::Resume.states().to_vec(),
            Self::Skip(_) => VerbKind::Skip.states().to_vec(),
            Self::Retry => VerbKind::Retry.states().to_vec(),
            Self::Abandon(_) => VerbKind::Abandon.states().to_vec(),
            Self::Cancel(_) => {
                let all = TaskState::ALL.into_iter();
                all.filter(|state| !state.is_final()).collect()
            }
        }
    }

    async fn carry_out(
        &self,
        client: &Client,
        task: TaskId,
        by: &Operator,
    ) -> Result<Acted, ClientError> {
        let operated = match self {
            Self::Resume => client.resume(task, by).await?,
            Self::Skip(output) => client.skip(task, output.clone(), by).await?,
            Self::Retry => client.retry(task, by).await?,
            Self::Abandon(reason) => client.abandon(task, reason, by).await?,
            Self::Cancel(reason) => {
                return Ok(cancelled(client.cancel_by(task, &note(reason), by).await?));
            }
        };
        Ok(match operated {
            Operated::Unknown => Acted::Unknown,
            Operated::Moved { task, .. } => Acted::Done(task.state),
            Operated::Copied(copy) => Acted::Copied(copy.id),
            Operated::Refused(refusal) => Acted::LeftAlone {
                why: refusal.to_string(),
                hint: refusal.hint(),
            },
        })
    }
}

fn cancelled(answer: Cancelled) -> Acted {
    match answer {
        Cancelled::Unknown => Acted::Unknown,
        Cancelled::Final(TaskState::Cancelled) => Acted::Done(TaskState::Cancelled),
        Cancelled::Final(state) => Acted::LeftAlone {
            why: format!("the task is final already: {state}"),
            hint: None,
        },
        Cancelled::Accepted {
            cancelled, running, ..
        } => Acted::Cancelled {
            ended: cancelled.len(),
            stopping: running.len(),
        },
    }
}

impl Acted {
    const fn is_done(&self) -> bool {
        match self {
            Self::Done(_) | Self::Copied(_) | Self::Cancelled { .. } => true,
            Self::Unknown | Self::LeftAlone { .. } => false,
        }
    }

    fn json(&self, act: &Act, id: TaskId) -> ActedJson {
        let json = ActedJson {
            id: id.to_string(),
            what: if self.is_done() {
                act.done()
            } else {
                LEFT_ALONE
            },
            state: None,
            copy: None,
            why: None,
        };
        match self {
            Self::Unknown => ActedJson {
                why: Some("there is no such task".to_owned()),
                ..json
            },
            Self::Done(state) => ActedJson {
                state: Some(state.to_string()),
                ..json
            },
            Self::Copied(copy) => ActedJson {
                copy: Some(copy.to_string()),
                ..json
            },
            Self::Cancelled { .. } => json,
            Self::LeftAlone { why, .. } => ActedJson {
                why: Some(why.clone()),
                ..json
            },
        }
    }
}

/// Who acts: as it is said, or whoever types.
pub(super) fn operator(by: Option<&str>) -> Result<Operator, Complaint> {
    Ok(match by {
        Some(name) => Operator::new(name)?,
        None => env::operator(),
    })
}

/// Does `act` to the tasks that are meant.
pub(super) async fn run(
    config: &Config,
    which: Which,
    act: Act,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let by = operator(which.by.as_deref())?;
    match (&which.id, &which.condition) {
        (Some(id), _) => one(config, id.parse()?, &act, &by, output).await,
        (None, condition) => {
            let condition: Condition = condition.as_deref().unwrap_or_default().parse()?;
            let condition = if condition.names_states() {
                condition
            } else {
                condition.in_states(&act.states())
            };
            let session = Session::open(config).await?;
            let many = Many {
                client: &session.client,
                act: &act,
                by: &by,
                output,
            };
            let ended = many.carry_out(condition, which.yes).await;
            session.close().await;
            ended
        }
    }
}

async fn one(
    config: &Config,
    id: TaskId,
    act: &Act,
    by: &Operator,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let session = Session::open(config).await?;
    let acted = act.carry_out(&session.client, id, by).await;
    session.close().await;
    let acted = acted?;
    match (&acted, act) {
        (Acted::Unknown, _) => return Err(ClientError::Unknown(id).into()),
        (Acted::LeftAlone { why, hint }, _) => {
            let complaint = Complaint::failed(why.clone());
            return Err(match hint {
                Some(hint) => complaint.with_hint(*hint),
                None => complaint,
            });
        }
        _ if output.format() != Format::Table => output.jsonl(&acted.json(act, id))?,
        (Acted::Cancelled { ended, stopping }, _) => output.say(&format!(
            "cancelled {ended}, asked {stopping} that run to stop"
        )),
        (Acted::Done(_), Act::Cancel(_)) => output.say("it was cancelled before"),
        (Acted::Copied(copy), _) => {
            output.line(&copy.to_string())?;
            output.say("retried: a copy of it runs");
        }
        (Acted::Done(state), act) => {
            if matches!(act, Act::Retry) {
                output.line(&id.to_string())?;
            }
            output.say(&format!("{}: it is {state} now", act.done()));
        }
    }
    Ok(ExitStatus::Done)
}

/// What is done to many tasks.
struct Many<'a> {
    client: &'a Client,
    act: &'a Act,
    by: &'a Operator,
    output: Output,
}

impl Many<'_> {
    async fn carry_out(
        self,
        condition: Condition,
        is_agreed: bool,
    ) -> Result<ExitStatus, Complaint> {
        let mut list = condition.list(&**self.client.store()).await?;
        list.limit = usize::MAX;
        let count = self.client.count(&list).await?;
        let thing = if count == 1 {
            "task matches"
        } else {
            "tasks match"
        };
        self.output.say(&format!("{count} {thing}"));
        if count > 0 && !is_agreed && !self.asks()? {
            self.output.say("nothing was changed");
            return Ok(ExitStatus::Done);
        }
        let (done, left_alone) = self.page_by_page(list, count).await?;
        let what = self.act.done();
        match self.output.format() {
            Format::Jsonl => {}
            Format::Json => self.output.json(&SummaryJson {
                what,
                done,
                left_alone,
            })?,
            Format::Table => self
                .output
                .line(&format!("{what} {done}, {LEFT_ALONE} {left_alone}"))?,
        }
        Ok(ExitStatus::Done)
    }

    /// Asks on a terminal; who cannot be asked has to say so before.
    fn asks(&self) -> Result<bool, Complaint> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Err(
                Complaint::usage("many tasks are not changed without asking")
                    .with_hint("add `--yes`"),
            );
        }
        self.output.say("go on? [y/N]");
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }

    /// Goes from the newest to the oldest, so that what is submitted meanwhile is not met, and nothing twice.
    async fn page_by_page(&self, mut list: List, count: u64) -> Result<(u64, u64), Complaint> {
        let bar = bar(count);
        let (mut done, mut left_alone) = (0, 0);
        list.limit = PAGE;
        loop {
            let listed = self.client.list(&list).await?;
            let next = listed.next(PAGE);
            let readable = listed.tasks.iter().map(|task| task.id);
            let unreadable = listed.unreadable.iter().map(|row| row.id);
            for id in readable.chain(unreadable) {
                let acted = self.act.carry_out(self.client, id, self.by).await?;
                if acted.is_done() {
                    done += 1;
                } else {
                    left_alone += 1;
                }
                if self.output.format() == Format::Jsonl {
                    bar.suspend(|| self.output.jsonl(&acted.json(self.act, id)))?;
                }
                bar.inc(1);
            }
            match next {
                Some(_) => list.before = next,
                None => break,
            }
        }
        bar.finish_and_clear();
        Ok((done, left_alone))
    }
}

/// A progress bar, which draws itself on terminals only.
fn bar(count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count).with_style(style)
}
