//! `longshore audit`: everything that is stored, held against its rules.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::args::{AuditArgs, Common, Flags};
use super::complaint::Complaint;
use super::output::Output;
use super::status::ExitStatus;
use super::{broker, process};
use crate::broker::{BrokerAddress, Speaker};
use crate::config::Config;
use crate::domain::{
    Audit, AuditDepth, Subject, TaskFacts, Violation, ViolationKind, WebId, unannounced,
};
use crate::runtime::Runtime;
use crate::wire::EventKind;

/// One violation, in JSON and as a row.
#[derive(Serialize)]
struct Told {
    kind: &'static str,
    subject: String,
    result: &'static str,
    what: String,
}

/// What of a violation is the same before and after a repair.
type Key = (ViolationKind, Subject);

pub(super) async fn run(
    common: &Common,
    args: &AuditArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    // Without a repair nothing is said to the broker.
    let address = match &config.broker.url {
        Some(address @ BrokerAddress::Amqp(_)) if args.fix => address.clone(),
        Some(_) | None => BrokerAddress::None,
    };
    let runtime = Runtime::connect(config.store.address()?, &address, "audit").await?;
    let audited = audited(&config, &runtime, args, output).await;
    runtime.stop().await;
    audited
}

async fn audited(
    config: &Config,
    runtime: &Runtime,
    args: &AuditArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    runtime.check_schema().await?;
    let depth = if args.all {
        AuditDepth::All
    } else {
        AuditDepth::Open
    };
    let found = look(config, runtime, depth).await?;
    if !args.fix {
        return report(output, &found, |_| "found");
    }
    let announced = repair(runtime, &found, output).await?;
    let after = look(config, runtime, depth).await?;
    let left: HashSet<Key> = after.violations.iter().map(key).collect();
    let is_repaired = |violation: &Violation| {
        let key = key(violation);
        announced.contains(&key.1) && key.0 == ViolationKind::Unannounced || !left.contains(&key)
    };
    // What came up meanwhile is told as well: it was not there to be repaired.
    let known: HashSet<Key> = found.violations.iter().map(key).collect();
    let mut all = found;
    all.is_cut = after.is_cut;
    let new = after.violations.into_iter();
    all.violations
        .extend(new.filter(|violation| !known.contains(&key(violation))));
    report(output, &all, |violation| {
        if is_repaired(violation) {
            "repaired"
        } else {
            "left"
        }
    })
}

fn key(violation: &Violation) -> Key {
    (violation.kind, violation.subject)
}

/// One audit, with what the broker or the executors say of tasks that wait for long.
async fn look(config: &Config, runtime: &Runtime, depth: AuditDepth) -> Result<Audit, Complaint> {
    let mut audit = runtime.store().audit(depth).await?;
    let messages = if audit.waiting.is_empty() {
        None
    } else {
        let queues = audit.waiting.iter().map(|task| &task.queue);
        broker::work(config, queues).await?
    };
    let lost = unannounced(&audit, messages.as_ref());
    audit.violations.extend(lost);
    Ok(audit)
}

/// Repairs what can be, and says what was done. Answers with the tasks that were announced again.
async fn repair(
    runtime: &Runtime,
    audit: &Audit,
    output: Output,
) -> Result<HashSet<Subject>, Complaint> {
    let taken = runtime.store().repair(&audit.violations).await?;
    for (what, tasks) in [
        ("released", &taken.released),
        ("ended, because it may run only once", &taken.ended),
        ("cancelled, as somebody wished", &taken.cancelled),
    ] {
        for facts in tasks {
            output.say(&format!("{} {what}", facts.id));
        }
    }
    let is_lost = |facts: &&TaskFacts| {
        let subject = Subject::Task(facts.id);
        let mut lost = audit.violations.iter();
        lost.any(|one| key(one) == (ViolationKind::Unannounced, subject))
    };
    let lost: Vec<&TaskFacts> = audit.waiting.iter().filter(is_lost).collect();
    let announced = announce(runtime, lost.iter().copied().chain(&taken.released)).await;
    let is_announced = |facts: &&&TaskFacts| announced.contains(&Subject::Task(facts.id));
    for facts in lost.iter().filter(is_announced) {
        output.say(&format!("{} announced again", facts.id));
    }
    Ok(announced)
}

/// Announces tasks; answers with those that the broker has taken charge of. What it has not is left to idle executors.
async fn announce(runtime: &Runtime, tasks: impl Iterator<Item = &TaskFacts>) -> HashSet<Subject> {
    if !runtime.broker().promises().announces {
        return HashSet::new();
    }
    let clock = runtime.clock();
    let web = WebId::new(clock.now(), clock.random());
    let speaker = Speaker::web(web, Arc::clone(clock));
    let (subjects, messages): (Vec<Subject>, Vec<_>) = tasks
        .map(|facts| {
            let message = speaker.announcement(EventKind::Created, facts);
            (Subject::Task(facts.id), message)
        })
        .unzip();
    let answers = runtime.broker().publish(messages.clone()).await;
    let is_taken: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    let taken = messages.iter().zip(&is_taken);
    let told = speaker.announced(taken.filter(|(_, is_taken)| **is_taken).map(|(one, _)| one));
    // Nothing depends on it.
    drop(runtime.broker().publish(Vec::from_iter(told)).await);
    let taken = subjects.into_iter().zip(is_taken);
    taken
        .filter(|(_, is_taken)| *is_taken)
        .map(|(subject, _)| subject)
        .collect()
}

fn report(
    output: Output,
    audit: &Audit,
    result: impl Fn(&Violation) -> &'static str,
) -> Result<ExitStatus, Complaint> {
    let told: Vec<Told> = audit
        .violations
        .iter()
        .map(|violation| Told {
            kind: violation.kind.as_str(),
            subject: violation.subject.to_string(),
            result: result(violation),
            what: violation.what.clone(),
        })
        .collect();
    output.rows(&["KIND", "SUBJECT", "RESULT", "WHAT"], &told, |one| {
        vec![
            one.kind.to_owned(),
            one.subject.clone(),
            one.result.to_owned(),
            one.what.clone(),
        ]
    })?;
    let bad = told.iter().filter(|one| one.result != "repaired").count();
    let repairable = audit
        .violations
        .iter()
        .filter(|one| one.kind.is_repairable() && result(one) == "found")
        .count();
    output.say(&match (told.len(), bad) {
        (0, _) => "nothing is wrong".to_owned(),
        (all, 0) => format!("repaired {all}"),
        (all, bad) if bad < all => format!("repaired {}, left {bad}", all - bad),
        (_, bad) => format!("violations: {bad}"),
    });
    if repairable > 0 {
        output.say(&format!(
            "`longshore audit --fix` repairs {repairable} of them"
        ));
    }
    if audit.is_cut {
        output.say("there are more: repair these first");
    }
    Ok(if bad == 0 && !audit.is_cut {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}
