//! `longshore workflow`.

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::args::{Common, Flags, SubmitArgs, WorkflowRunArgs, WorkflowVerb};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::status::ExitStatus;
use super::{process, task};
use crate::action::builtin::workflow::{Document, Graph, Problem};
use crate::wire::nearest;

/// What a check came to.
#[derive(Serialize)]
struct CheckedJson<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    problems: &'a [Problem],
}

pub(super) async fn run(
    common: &Common,
    verb: WorkflowVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    match verb {
        WorkflowVerb::Check { file } => check(&file, output),
        WorkflowVerb::Show { file } => show(&file, output),
        WorkflowVerb::Run(args) => submit(common, args, output).await,
    }
}

fn check(file: &str, output: Output) -> Result<ExitStatus, Complaint> {
    let checked = Document::read(&read(file)?);
    let (steps, problems) = match &checked {
        Ok(document) => (Some(document.step_count()), [].as_slice()),
        Err(problems) => (None, problems.as_slice()),
    };
    let json = CheckedJson {
        valid: steps.is_some(),
        steps,
        problems,
    };
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => {
            for problem in problems {
                output.line(&problem.to_string())?;
            }
        }
    }
    if let Some(steps) = steps {
        output.say(&format!("nothing is wrong; steps: {steps}"));
        Ok(ExitStatus::Done)
    } else {
        output.say(&format!("problems: {}", problems.len()));
        Ok(ExitStatus::Failed)
    }
}

fn show(file: &str, output: Output) -> Result<ExitStatus, Complaint> {
    let document = Document::read(&read(file)?).map_err(|problems| invalid(file, &problems))?;
    let graph = Graph::of(&document);
    match output.format() {
        Format::Json => output.json(&graph)?,
        Format::Jsonl => output.jsonl(&graph)?,
        Format::Table => output.line(&graph.to_string())?,
    }
    Ok(ExitStatus::Done)
}

async fn submit(
    common: &Common,
    args: WorkflowRunArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    let mut workflow = read(&args.file)?;
    let document = Document::read(&workflow).map_err(|problems| invalid(&args.file, &problems))?;
    if let Some(input) = &args.input {
        give(&mut workflow, &document, input)?;
    }
    let task = SubmitArgs {
        action: "workflow".to_owned(),
        input: Some(workflow.to_string()),
        flags: args.flags,
        idempotency_key: args.idempotency_key,
        wait: args.wait,
        ..SubmitArgs::default()
    };
    task::submit(&config, task, output).await
}

/// Puts the values of `said` in the place of those of the workflow's `input`.
fn give(workflow: &mut Value, document: &Document, said: &str) -> Result<(), Complaint> {
    let text = match said.strip_prefix('@') {
        Some(path) => text(path)?,
        None => said.to_owned(),
    };
    let given: serde_json::Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| Complaint::usage(format!("`--input` is not a JSON object: {error}")))?;
    for (key, value) in given {
        if !document.input().contains_key(&key) {
            let complaint = Complaint::usage(format!("the workflow's `input` has no `{key}`"));
            let near = nearest(&key, document.input().keys().map(String::as_str));
            return Err(match near {
                Some(near) => complaint.with_hint(format!("did you mean `{near}`?")),
                None => complaint,
            });
        }
        workflow["input"][key] = value;
    }
    Ok(())
}

/// Reads a document: JSON if its name says so, and otherwise YAML, of which JSON is a part.
fn read(file: &str) -> Result<Value, Complaint> {
    let text = text(file)?;
    let is_json = Path::new(file)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let wrong = |reason: String| Complaint::failed(format!("`{file}` cannot be read: {reason}"));
    if is_json {
        return serde_json::from_str(&text).map_err(|error| wrong(error.to_string()));
    }
    let options = serde_saphyr::options! {
        // `no` and `on` are words, as YAML 1.2 has it.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| wrong(error.to_string()))
}

fn text(file: &str) -> Result<String, Complaint> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .map_err(|error| Complaint::usage(format!("`{file}` cannot be read: {error}")))
}

fn invalid(file: &str, problems: &[Problem]) -> Complaint {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Complaint::failed(format!("`{file}` is no workflow")).with_causes(told)
}
