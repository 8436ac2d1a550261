//! The house rules, each with file, line and what is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use longshore::config::settings::SETTINGS;

/// The modules, bottom to top: one names only those in lines above its own, and itself.
///
/// A module that is not here yet is added where it belongs, never at the end for convenience.
const LAYERS: &[&[&str]] = &[
    // 0: the domain and its outside.
    &["domain"],
    &["wire"],
    // 1: ports and backends; these two serve the others.
    &["clock", "background"],
    &["action", "store", "broker"],
    // Users' tests: of these it names `action` and `clock` only.
    &["testing"],
    // 2: services.
    &["tap"],
    &["client", "housekeeping"],
    &["executor"],
    // 3: assembly.
    &["config"],
    &["telemetry"],
    &["runtime"],
    // 4: surfaces; a command serves HTTP.
    &["http"],
    &["cli"],
];

/// Crates that are named in one place only, so that replacing them is one place's work.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["src/store/"]),
    ("lapin", &["src/broker/amqp/"]),
    ("axum", &["src/http/"]),
    ("clap", &["src/cli/"]),
    ("backoff", &["src/clock/pause.rs"]),
    ("toml", &["src/config/file.rs"]),
    ("ratatui", &["src/cli/top/"]),
    ("serde_saphyr", &["src/cli/workflow.rs"]),
];

/// Lines of one file.
const FILE_LINES_MAX: usize = 600;

/// One file of ours.
struct File {
    /// From the top of the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Its lines that are not comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The module of the library that it belongs to; `None` for the library's and the program's own file.
    fn module(&self) -> Option<&str> {
        let (module, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(module)
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folders`, sorted.
fn rust_files(folders: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| top().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top()).unwrap().display().to_string();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn all_rust_files() -> Vec<File> {
    rust_files(&["src", "tests", "examples", "benches"])
}

#[track_caller]
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// The height of `module` above the ground.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of ours that a line of code names: `crate::store::…`, and each of `use crate::{store, wire::…}`.
fn named(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, before) in line.match_indices("crate::") {
        let is_ours =
            !line[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let rest = &line[at + before.len()..];
        match rest.strip_prefix('{') {
            _ if !is_ours => {}
            Some(list) => names.extend(outermost(list)),
            None => names.push(word(rest)),
        }
    }
    names
}

/// The first word of each part of `list` that is not inside inner braces.
fn outermost(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut words) = (0_usize, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                words.push(word(list[begin..at].trim_start()));
                return words;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                words.push(word(list[begin..at].trim_start()));
                begin = at + 1;
            }
            _ => {}
        }
    }
    words.push(word(list[begin..].trim_start()));
    words
}

fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The imports of `file` that point upwards or sideways.
fn upward(file: &File) -> Vec<String> {
    let Some(module) = file.module() else {
        return Vec::new();
    };
    let Some(own) = layer(module) else {
        return vec![format!(
            "{}:1: `{module}` is in no layer; add it to `LAYERS` of tests/it/tidy.rs",
            file.path
        )];
    };
    // A list of imports may span lines: it is read as one, at its first.
    let mut broken = Vec::new();
    let mut statement: Option<(usize, String)> = None;
    for (number, line) in file.code() {
        let (number, text) = match statement.take() {
            Some((first, before)) => (first, format!("{before} {}", line.trim())),
            None => (number, line.to_owned()),
        };
        if text.contains("use crate::{") && !text.contains(';') {
            statement = Some((number, text));
            continue;
        }
        for name in named(&text) {
            let is_upward = layer(name).is_some_and(|other| other >= own && name != module);
            if is_upward {
                broken.push(format!("{}:{number}: `{module}` names `{name}`", file.path));
            }
        }
    }
    broken
}

#[test]
fn imports_point_downwards() {
    let broken: Vec<_> = rust_files(&["src"]).iter().flat_map(upward).collect();
    none("these imports point upwards", &broken);
}

#[test]
fn an_import_that_points_upwards_is_seen_and_named() {
    let check = |module: &str, text: &str, expected: &[&str]| {
        let path = format!("src/{module}/a.rs");
        let broken = upward(&File {
            path,
            text: text.to_owned(),
        });
        assert_eq!(broken, expected, "{text}");
    };
    check(
        "domain",
        "\nuse crate::store::Store;",
        &["src/domain/a.rs:2: `domain` names `store`"],
    );
    check("domain", "// use crate::store::Store;", &[]);
    check(
        "wire",
        "use crate::domain::Task;\nuse crate::wire::parse;",
        &[],
    );
    check(
        "store",
        "let x = crate::broker::x();",
        &["src/store/a.rs:1: `store` names `broker`"],
    );
    let list = "use crate::{\n    domain::{Task, TaskId},\n    http::Api,\n};\nfn f() {}";
    check("store", list, &["src/store/a.rs:1: `store` names `http`"]);
    check(
        "misc",
        "",
        &["src/misc/a.rs:1: `misc` is in no layer; add it to `LAYERS` of tests/it/tidy.rs"],
    );
}

#[test]
fn a_crate_is_named_where_it_belongs_and_nowhere_else() {
    let mut broken = Vec::new();
    for file in rust_files(&["src"]) {
        for (name, places) in CRATES {
            if places.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            for (number, line) in file.code() {
                let is_named = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !line[..at]
                        .ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter))
                });
                if is_named {
                    broken.push(format!(
                        "{}:{number}: `{name}` belongs to {}",
                        file.path,
                        places.join(", ")
                    ));
                }
            }
        }
    }
    none("these crates are named elsewhere", &broken);
}

#[test]
fn sqlite_plans_no_statement_anew_for_its_limit() {
    let files = rust_files(&["src/store"]);
    let lines = files
        .iter()
        .filter(|file| !file.path.starts_with("src/store/postgres"))
        .flat_map(|file| file.code().map(move |(number, line)| (file, number, line)));
    let broken: Vec<String> = lines
        .filter(|(_, _, line)| line.contains("limit ?") || line.contains("limit $"))
        .map(|(file, number, _)| format!("{}:{number}", file.path))
        .collect();
    none(
        "a bound limit is written `limit +?3`, and for both stores `limit cast($3 as bigint)`",
        &broken,
    );
}

#[test]
fn only_one_file_reads_the_environment() {
    let mut broken = Vec::new();
    for file in rust_files(&["src"]) {
        if file.path == "src/config/env.rs" {
            continue;
        }
        let reads = |line: &str| {
            ["env::var(", "env::var_os(", "env::vars"]
                .iter()
                .any(|read| line.contains(read))
        };
        for (number, _) in file.code().filter(|(_, line)| reads(line)) {
            broken.push(format!("{}:{number}: ask `config::env`", file.path));
        }
    }
    none("these read the environment", &broken);
}

#[test]
fn files_are_short_and_say_what_they_hold() {
    let mut broken = Vec::new();
    for file in all_rust_files() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            broken.push(format!("{}: {lines} lines; split it", file.path));
        }
        if file.path.starts_with("src/") && !file.text.starts_with("//!") {
            broken.push(format!(
                "{}:1: begin with `//!`: what lives here",
                file.path
            ));
        }
    }
    none("these files are too long, or silent", &broken);
}

#[test]
fn nothing_unfinished_and_no_test_that_does_not_run() {
    // In two pieces, or this file would break the rule.
    let banned = [
        (concat!("FIX", "ME"), "fix it"),
        (concat!("dbg", "!("), "use `tracing::debug!`"),
        (concat!("#[ig", "nore"), "a test runs, or is deleted"),
        (concat!("fn te", "st_"), "a test's name is a sentence"),
    ];
    let mut broken = Vec::new();
    for file in all_rust_files() {
        for (index, line) in file.text.lines().enumerate() {
            for (word, remedy) in banned.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!("{}:{}: `{word}`: {remedy}", file.path, index + 1));
            }
        }
    }
    none("these are not done", &broken);
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |database: &str| -> Vec<String> {
        let folder = top().join("migrations").join(database);
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|ending| ending == "sql")
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("postgres"), names("sqlite"));
}

#[test]
fn every_setting_is_documented() {
    let text = fs::read_to_string(top().join("docs/configuration.md"));
    let text = text.expect("the settings are documented");
    let mut broken = Vec::new();
    for setting in SETTINGS {
        let flag = setting
            .flag
            .map_or(" ".to_owned(), |flag| format!(" `{flag}` "));
        let row = format!("| `{}` | `{}` |{flag}|", setting.key, setting.env);
        let item = format!("* `{}`: ", setting.key);
        for missing in [&row, &item]
            .into_iter()
            .filter(|word| !text.contains(*word))
        {
            broken.push(format!("docs/configuration.md lacks `{missing}`"));
        }
    }
    none("these settings are not documented", &broken);
}

#[test]
fn what_is_typed_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for script in ["tests/run", ".ci/run", "tests/services/install-debian.sh"] {
        let facts = fs::metadata(top().join(script)).unwrap();
        assert!(
            facts.permissions().mode() & 0o111 != 0,
            "`{script}` is not executable"
        );
    }
}
