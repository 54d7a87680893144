//! The rules of the house, checked on the text of the tree: which module may know which, how long a file may be, what
//! may not be written, and that the map in `src/lib.rs` is true.
//!
//! Every rule is a function from files to complaints, so that the real tree and the small bad trees at the end go
//! through the same code. It reads text, not types: a re-export or a macro can get past it. It is there to catch
//! slips, not opponents.

#[path = "tidy/source.rs"]
mod source;

use source::{File, close, has_word, is_rust, line_of, tree, words};
use std::collections::{BTreeMap, BTreeSet};

/// Who may import whom: a top-level module of `src/`, and all that it may name. Imports run strictly downward, so each
/// row names rows below it only.
///
/// `wire` and `domain` are pure and know nothing of ours. `sim` is the other side of the socket: it never sees
/// `session`. `observe` is a leaf that anyone but the pure two may use. `config` composes the components' own Configs,
/// so it stands above them, and only those who start the components see it.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("main", "cli sim app config api groups control session cluster store hub domain observe settings"),
    ("cli", "sim app config api groups control session cluster store hub domain wire observe settings"),
    ("sim", "wire domain observe"),
    ("app", "config api groups control session cluster store hub domain observe settings"),
    ("config", "api groups control session cluster store hub domain observe settings"),
    ("api", "groups control cluster session store hub domain observe settings"),
    ("groups", "cluster store domain observe settings"),
    ("control", "cluster session store hub domain observe settings"),
    ("cluster", "session store hub domain observe settings"),
    ("session", "store hub domain wire observe settings"),
    ("store", "domain observe settings"),
    ("hub", "domain observe settings"),
    ("observe", ""),
    ("settings", ""),
    ("domain", ""),
    ("wire", ""),
];

/// Words that may not be written, in code (never in comments or strings).
const BANNED: &[Ban] = &[
    Ban { word: "todo!", places: SRC, tests_too: false, why: "a peer can reach it, and it panics" },
    Ban { word: "unimplemented!", places: SRC, tests_too: false, why: "a peer can reach it, and it panics" },
    Ban { word: "dbg!", places: SRC, tests_too: false, why: "logs go through tracing" },
    Ban { word: ".unwrap()", places: SRC, tests_too: false, why: "use expect(\"why it cannot fail\"), or handle it" },
    Ban { word: "unbounded_channel", places: RUST, tests_too: true, why: "every queue is bounded" },
    Ban { word: "#[ignore", places: RUST, tests_too: true, why: "a test that does not run proves nothing" },
    Ban { word: "sleep(", places: TESTS, tests_too: true, why: "use paused time, or a bounded wait on a condition" },
    Ban { word: "tokio::", places: PURE, tests_too: false, why: "this module does no I/O" },
    Ban { word: "std::net", places: PURE, tests_too: false, why: "this module does no I/O" },
    Ban { word: "std::fs", places: PURE, tests_too: false, why: "this module does no I/O" },
    Ban { word: "::now(", places: CLOCKLESS, tests_too: false, why: "`now` is an argument here" },
    Ban { word: ".await", places: CLOCKLESS, tests_too: false, why: "protocol logic is plain functions" },
];
const RUST: &[&str] = &["src/", "tests/", "benches/", "fuzz/", "build.rs"];
const SRC: &[&str] = &["src/"];
const TESTS: &[&str] = &["tests/"];
const PURE: &[&str] = &["src/wire/", "src/domain/"];
const CLOCKLESS: &[&str] = &["src/wire/", "src/domain/", "src/session/state.rs"];

/// Exceptions from `BANNED`: file, word, and why it is right there. One that nothing needs any more is a complaint.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

const MAX_LINES: usize = 500;

struct Ban {
    word: &'static str,
    places: &'static [&'static str],
    /// Whether `#[cfg(test)]` code is meant as well.
    tests_too: bool,
    why: &'static str,
}

// ---- the rules ------------------------------------------------------------------------------------------------------

/// Every top-level module has a row in `MAY_IMPORT` and names only what its row lists.
fn direction(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| !f.module.is_empty()) {
        let from = &file.module[0];
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == from) else {
            let path = &file.path;
            complaints.push(format!("{path}:1: `{from}` has no row in MAY_IMPORT: give it a place in the house"));
            continue;
        };
        for (line, path) in &file.imports {
            let to = &path[0];
            let ours = MAY_IMPORT.iter().any(|(name, _)| name == to);
            if ours && to != from && !has_word(allowed, to) {
                let list = if allowed.is_empty() { "nothing of ours" } else { allowed };
                complaints.push(format!(
                    "{}:{line}: `{from}` may not import `{to}`: imports run downward, and `{from}` may know {list}",
                    file.path
                ));
            }
        }
    }
    complaints
}

/// No two modules of one directory reach each other. A directory's `mod.rs` is its front and may name all of it.
fn circles(files: &[File]) -> Vec<String> {
    let modules: BTreeSet<&[String]> =
        files.iter().flat_map(|f| (1..=f.module.len()).map(|n| &f.module[..n])).collect();
    // An import is an edge where the two paths part: between two children of their last common module.
    let mut edges: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    let mut seen = Vec::new();
    for file in files {
        for (line, path) in &file.imports {
            let common = file.module.iter().zip(path).take_while(|(a, b)| a == b).count();
            if common < file.module.len() && common < path.len() && modules.contains(&path[..=common]) {
                let (from, to) = (&file.module[..=common], &path[..=common]);
                edges.entry(from).or_default().insert(to);
                if !seen.iter().any(|(f, _, _, t)| (*f, *t) == (&file.path, to)) {
                    seen.push((&file.path, line, from, to));
                }
            }
        }
    }
    let reaches = |from, to| {
        let (mut todo, mut been) = (vec![from], BTreeSet::new());
        while let Some(at) = todo.pop() {
            if at == to {
                return true;
            }
            if been.insert(at) {
                todo.extend(edges.get(at).into_iter().flatten().copied());
            }
        }
        false
    };
    seen.iter()
        .filter(|(_, _, from, to)| reaches(*to, *from))
        .map(|(path, line, from, to)| {
            let (from, to) = (from.join("::"), to.join("::"));
            format!("{path}:{line}: `{from}` and `{to}` import each other in a circle: neither can be read first")
        })
        .collect()
}

/// `api/convert.rs` (or files in `api/convert/`) is where protobuf meets the domain.
///
/// The weaker half of that rule: elsewhere in `api` no impl and no function names both `pb::` and `domain::` in its
/// head, and no `From` names `pb::`. Services may still pass domain values on, which they get from `convert`.
fn conversions(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|f| f.path.starts_with("src/api/") && !f.path.starts_with("src/api/convert")) {
        for at in words(&file.code, "impl").chain(words(&file.code, "fn")) {
            let rest = &file.code[at..];
            let head = &rest[..rest.find(['{', ';']).unwrap_or(rest.len())];
            let is_from = head.starts_with("impl") && head.contains("From<");
            if has_word(head, "pb::") && (is_from || has_word(head, "domain::")) {
                let (path, line) = (&file.path, line_of(&file.code, at));
                complaints.push(format!("{path}:{line}: turns protobuf into domain or back: only api/convert.rs may"));
            }
        }
    }
    complaints
}

fn length(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|f| f.path.starts_with("src/") && f.raw.lines().count() > MAX_LINES)
        .map(|f| format!("{}:{}: longer than {MAX_LINES} lines: find the seam and cut", f.path, f.raw.lines().count()))
        .collect()
}

fn banned(files: &[File], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for file in files {
        for ban in BANNED.iter().filter(|ban| ban.places.iter().any(|place| file.path.starts_with(place))) {
            let code = if ban.tests_too { &file.code } else { &file.shipped };
            for at in words(code, ban.word) {
                if let Some(i) = exceptions.iter().position(|(path, word, _)| *path == file.path && *word == ban.word) {
                    used.insert(i);
                } else {
                    let line = line_of(code, at);
                    complaints.push(format!("{}:{line}: `{}` is not written here: {}", file.path, ban.word, ban.why));
                }
            }
        }
    }
    for (i, (path, word, _)) in exceptions.iter().enumerate().filter(|(i, _)| !used.contains(i)) {
        complaints.push(format!("tests/tidy.rs: exception {i} (`{word}` in {path}) is not needed: delete it"));
    }
    complaints
}

/// `#[allow(…)]` and `#[expect(…)]` say why.
fn reasons(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (at, _) in file.code.match_indices('#') {
            let attribute = file.code[at + 1..].trim_start_matches('!');
            if !attribute.starts_with('[') {
                continue;
            }
            let attribute = &attribute[..close(attribute, 0).unwrap_or(attribute.len())];
            let silences = ["[allow(", "[expect(", " allow(", " expect("].iter().any(|s| attribute.contains(s));
            if silences && !has_word(attribute, "reason") {
                let line = line_of(&file.code, at);
                complaints.push(format!("{}:{line}: a lint is silenced without `reason = \"…\"`", file.path));
            }
        }
    }
    complaints
}

/// The tree drawn in the docs of `src/lib.rs` is the tree that exists.
///
/// A drawn path starts a line: with `src/`, or bare below a line that starts with `src/dir/`, up to the next empty
/// line. Every top-level module is drawn; a directory of which one file is drawn is drawn in full (but for its
/// `mod.rs`); nothing is drawn, or named as `dir/file.rs` in the text, that does not exist in `src/` or beside it.
fn map(files: &[File]) -> Vec<String> {
    let Some(lib) = files.iter().find(|f| f.path == "src/lib.rs") else {
        return vec!["src/lib.rs:1: does not exist, and with it the map".into()];
    };
    let exists =
        |path: &str| files.iter().any(|f| if path.ends_with('/') { f.path.starts_with(path) } else { f.path == path });
    let is_path = |word: &str| is_rust(word) || word.ends_with('/');

    let mut complaints = Vec::new();
    let mut drawn = BTreeSet::new();
    let mut dir = None;
    for (i, line) in lib.raw.lines().enumerate() {
        let doc = line.strip_prefix("//!").unwrap_or("");
        let mut at_start = true;
        if doc.trim().is_empty() {
            dir = None;
        }
        for word in doc.split_whitespace() {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric() && !"/_".contains(c));
            at_start &= is_path(word) || word.is_empty();
            let path = match &dir {
                _ if word.starts_with("src/") && is_path(word) => word.to_owned(),
                Some(dir) if at_start && !word.is_empty() => format!("{dir}{word}"),
                _ if word.contains('/') && is_rust(word) && !exists(word) => format!("src/{word}"),
                _ => continue,
            };
            if !exists(&path) {
                complaints.push(format!("src/lib.rs:{}: the map names {path}, which does not exist", i + 1));
            }
            if at_start {
                if word.starts_with("src/") {
                    dir = path.ends_with('/').then(|| path.clone());
                }
                drawn.insert(path);
            }
        }
    }

    let parent = |path: &str| path.trim_end_matches('/').rsplit_once('/').map(|(dir, _)| format!("{dir}/"));
    let mut missing = BTreeSet::new();
    for path in files.iter().map(|f| f.path.as_str()).filter(|p| p.starts_with("src/") && is_rust(p)) {
        let steps = path.match_indices('/').skip(1).map(|(i, _)| &path[..=i]).chain([path]);
        for step in steps.filter(|s| !s.ends_with("/mod.rs") && *s != "src/lib.rs" && !drawn.contains(*s)) {
            let dir = parent(step);
            let front_is_drawn = step.strip_suffix('/').is_some_and(|s| drawn.contains(&format!("{s}.rs")));
            if front_is_drawn {
                continue;
            }
            if dir.as_deref() == Some("src/") || drawn.iter().any(|d| parent(d) == dir) {
                missing.insert(step);
            }
        }
    }
    let missing =
        missing.iter().map(|path| format!("src/lib.rs:1: {path} is not on the map: a reader looks for it there"));
    complaints.into_iter().chain(missing).collect()
}

/// Nothing refers to the machine it was written on.
fn workplace(files: &[File]) -> Vec<String> {
    let workplace = concat!("/wo", "rk/");
    let mut complaints = Vec::new();
    for file in files {
        for (at, _) in file.raw.match_indices(workplace) {
            if !file.raw[..at].ends_with(|c: char| c.is_alphanumeric()) {
                let line = line_of(&file.raw, at);
                complaints.push(format!("{}:{line}: a path of one machine: it means nothing to a reader", file.path));
            }
        }
    }
    complaints
}

// ---- the tree obeys them --------------------------------------------------------------------------------------------

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_run_downward() {
    none(&direction(&tree()));
}

#[test]
fn nothing_imports_in_a_circle() {
    none(&circles(&tree()));
}

#[test]
fn only_convert_knows_protobuf_and_domain() {
    none(&conversions(&tree()));
}

#[test]
fn files_are_short() {
    none(&length(&tree()));
}

#[test]
fn banned_words_are_not_written() {
    none(&banned(&tree(), EXCEPTIONS));
}

#[test]
fn silenced_lints_say_why() {
    none(&reasons(&tree()));
}

#[test]
fn the_map_is_true() {
    none(&map(&tree()));
}

#[test]
fn no_path_of_one_machine() {
    none(&workplace(&tree()));
}

/// Or else `direction` would let a circle of top-level modules pass.
#[test]
fn the_table_itself_runs_downward() {
    for (i, (from, allowed)) in MAY_IMPORT.iter().enumerate() {
        for to in allowed.split_whitespace() {
            assert!(
                MAY_IMPORT[i + 1..].iter().any(|(name, _)| *name == to),
                "`{from}` lists `{to}`, not a row below it"
            );
        }
    }
}

// ---- and they can be broken -----------------------------------------------------------------------------------------

/// Each expectation is the beginning of one complaint, in order.
#[track_caller]
fn check(rule: impl Fn(&[File]) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
    let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
    let complaints = rule(&files);
    let as_expected =
        complaints.len() == expected.len() && complaints.iter().zip(expected).all(|(c, e)| c.starts_with(e));
    assert!(as_expected, "expected {expected:#?}, got {complaints:#?}");
}

#[test]
fn upward_imports_are_found_however_they_are_written() {
    let up = "src/store/mod.rs:1: `store` may not import `api`";
    check(direction, &[("src/store/mod.rs", "use crate::api::error;")], &[up]);
    check(direction, &[("src/store/mod.rs", "use crate::{domain::{self, Order}, api::error};")], &[up]);
    check(direction, &[("src/store/mod.rs", "fn f() -> crate::api::Error { g() }")], &[up]);
    check(direction, &[("src/store/mod.rs", "mod t { use super::super::api; use super::api as a_child; }")], &[up]);
    check(direction, &[("src/store/mod.rs", "// use crate::api;\nconst S: &str = r#\"crate::api\"#;")], &[]);
    check(direction, &[("src/store/redis/mod.rs", "use super::super::{domain, hub};")], &["src/store/redis/mod.rs:1:"]);
    check(
        direction,
        &[("src/main.rs", "use pileway::{cli, wire::Frame};")],
        &["src/main.rs:1: `main` may not import `wire`"],
    );
    check(direction, &[("src/sim/pile.rs", "\nuse crate::session;")], &["src/sim/pile.rs:2:"]);
    check(
        direction,
        &[("src/domain/ids.rs", "use crate::observe;"), ("src/api/auth.rs", "use crate::config::Config;")],
        &["src/domain", "src/api"],
    );
    check(direction, &[("src/cli/demo.rs", "use crate::{app::App, sim, wire, observe};")], &[]);
    check(direction, &[("src/helpers.rs", "")], &["src/helpers.rs:1: `helpers` has no row"]);
}

#[test]
fn circles_are_found_at_every_depth() {
    let front = ("src/session/mod.rs", "mod actor; mod state; mod listen; pub use actor::Handle;");
    let actor = ("src/session/actor.rs", "use super::state::State;");
    check(circles, &[front, actor, ("src/session/state.rs", "use crate::domain::Order; use super::Handle;")], &[]);
    let both = ["src/session/actor.rs:1: `session::actor` and `session::state`", "src/session/state.rs:1:"];
    check(circles, &[front, actor, ("src/session/state.rs", "use crate::session::actor::Actor;")], &both);
    let three = [actor, ("src/session/state.rs", "use super::listen;"), ("src/session/listen.rs", "use super::actor;")];
    check(circles, &three, &["src/session/actor.rs", "src/session/state.rs", "src/session/listen.rs"]);
    check(
        circles,
        &[("src/hub.rs", "use crate::store;"), ("src/store/a/b.rs", "use crate::hub;")],
        &["src/hub", "src/store"],
    );
}

#[test]
fn other_slips_are_found() {
    let convert = "impl From<domain::Order> for pb::Order {}";
    check(conversions, &[("src/api/convert.rs", convert), ("src/api/piles.rs", convert)], &["src/api/piles.rs:1:"]);
    check(conversions, &[("src/api/piles.rs", "fn f(o: &domain::Order) -> pb::Order {}")], &["src/api/piles.rs:1:"]);
    check(conversions, &[("src/api/piles.rs", "impl pb::PileService for Piles { fn f(id: domain::Id) {} }")], &[]);
    check(length, &[("src/a.rs", &"\n".repeat(500)), ("src/b.rs", &"\n".repeat(501))], &["src/b.rs:501:"]);
    check(
        reasons,
        &[("src/a.rs", "#[derive(A)]\n#![allow(dead_code)]\n#[allow(x, reason = \"y\")]")],
        &["src/a.rs:2:"],
    );
    check(workplace, &[("README.md", concat!("see\n/wo", "rk/notes or .github/workflows"))], &["README.md:2:"]);
}

#[test]
fn banned_words_are_found_in_code_only() {
    let none_excepted = |files: &[File]| banned(files, &[]);
    let told = ["src/a.rs:1: `todo!`", "src/a.rs:2: `.unwrap()`"];
    check(none_excepted, &[("src/a.rs", "fn f() { todo!() }\nfn g() { h(\"\\\"\", '\"').unwrap() }")], &told);
    check(
        none_excepted,
        &[("src/a.rs", "#[cfg(test)]\nmod tests { fn f() { a.unwrap(); } } // todo!\n/* dbg! */")],
        &[],
    );
    check(none_excepted, &[("src/a.rs", "#[cfg(test)]\nmod t { } fn f() { a.unwrap() }")], &["src/a.rs:2:"]);
    check(
        none_excepted,
        &[("tests/a.rs", "#[ignore]\nfn a() { sleep(x); sleep_until(x); b.unwrap() }")],
        &["tests/a.rs:1:", "tests/a.rs:2: `sleep("],
    );
    check(none_excepted, &[("src/session/state.rs", "let n = Instant::now();")], &["src/session/state.rs:1: `::now("]);
    let excepted = |files: &[File]| banned(files, &[("tests/a.rs", "sleep(", "a child process has no paused time")]);
    check(excepted, &[("tests/a.rs", "sleep(x)")], &[]);
    check(excepted, &[("tests/a.rs", "")], &["tests/tidy.rs: exception 0"]);
}

#[test]
fn a_wrong_map_is_found() {
    let lib = |docs: &'static str| ("src/lib.rs", docs);
    let wire = ("src/wire/mod.rs", "");
    let login = ("src/wire/login.rs", "");
    let live = ("src/wire/live.rs", "");
    check(map, &[lib("//!     src/wire/   PURE\n//!       login.rs live.rs   rows"), wire, login, live], &[]);
    check(map, &[lib("//! - `src/wire/`: bytes. Kept in `wire/live.rs`."), wire, login, live], &[]);
    check(map, &[lib("//! nothing"), wire, login], &["src/lib.rs:1: src/wire/ is not on the map"]);
    check(map, &[lib("//! src/wire/\n//!   login.rs"), wire, login, live], &["src/lib.rs:1: src/wire/live.rs is not"]);
    check(map, &[lib("//! src/hub.rs"), ("src/hub.rs", ""), ("src/hub/lag.rs", "")], &[]);
    check(map, &[lib("//! src/wire/\n//! src/hub.rs"), wire], &["src/lib.rs:2: the map names src/hub.rs"]);
    check(
        map,
        &[lib("//! src/wire/\n//!\n//! as in `wire/gone.rs`"), wire],
        &["src/lib.rs:3: the map names src/wire/gone.rs"],
    );
}
