//! House rules that no compiler checks: sizes of files and functions, who may import whom, what tests may not do, and
//! that no line names a directory of the computer it was written on. The rules are the tables right below.

// Beside this file it would be a test of its own.
#[path = "tidy/scan.rs"]
mod scan;

use std::fs;
use std::path::Path;

use scan::{blank, body_start, first_names, inline_depth, is_ident, line_of, matching_brace, words};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;

/// The rooms of `src/` (its top-level modules) in layers. A room may import from its own layer and from those above it
/// in this table, never from one below: that would be a stage that a request meets only later.
const LAYERS: &[&[&str]] = &[
    &["clock", "json", "secret", "seldom"],
    &["shutdown"],
    &["config"],
    &["metrics"],
    &["budget", "log", "outbox", "reload", "tls"],
    // What runs on a user's computer: it uses nothing of the server's.
    &["client"],
    &["trace"],
    &["audit", "entra", "session"],
    &["http", "route"],
    &["streams", "record"],
    &["transport"],
    // The stages of a request.
    &["identity"],
    &["policy"],
    &["quota"],
    &["broker"],
    &["upstream"],
    // Dashboards, which get no token of the user's.
    &["mounts"],
    // Our own pages.
    &["signin"],
    &["view"],
    &["problem"],
    &["pages"],
    // What leads requests through the stages, and what runs beside them.
    &["admin", "upkeep"],
    &["simulation"],
    &["exchange"],
    &["listen"],
    &["app"],
    &["doctor"],
    &["cmd"],
    &["main"],
];

/// What must not stand in `src/`, `bench/` or `tests/`: a test that is skipped, work that is put off, a wait that hopes.
/// `a::b` also finds `b` in `use a::{b, c}`.
const FORBIDDEN: &[&str] = &["#[ignore", "todo!", "thread::sleep", "time::sleep"];

/// Exceptions to [`FORBIDDEN`]: the file, what may stand there, and why. One that is no longer used fails.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("src/clock.rs", "time::sleep", "the one place where the program waits for a time to come"),
    ("src/listen/timeouts.rs", "time::sleep", "a timer that is polled beside a socket"),
];

/// Directories that nobody writes by hand.
const NOT_OURS: &[&str] = &["target", ".git", ".demo"];

#[test]
fn files_and_functions_stay_small() {
    // Proves that every file and function, tests included, can be read in one sitting.
    let mut faults = Vec::new();
    for (path, source) in rust_files(&["src", "standin/src", "bench", "tests"]) {
        let lines = source.lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{path}: {lines} lines, at most {MAX_FILE_LINES}"));
        }
        faults.extend(long_functions(&blank(&source)).into_iter().map(|fault| format!("{path}:{fault}")));
    }
    assert_tidy(faults);
}

#[test]
fn no_room_imports_what_a_request_meets_later() {
    // Proves that dependencies between the modules of src/ point one way only.
    let mut faults = Vec::new();
    for (path, source) in rust_files(&["src"]) {
        faults
            .extend(wrong_imports(&path, &blank(&source)).into_iter().map(|fault| format!("{path}:{fault}")));
    }
    assert_tidy(faults);
}

#[test]
fn nothing_is_skipped_put_off_or_slept_away() {
    // Proves that a green run means that every test ran, and that none of them waits for luck.
    let mut faults = Vec::new();
    let mut unused: Vec<_> = ALLOWED.iter().collect();
    for (path, source) in rust_files(&["src", "bench", "tests"]) {
        for (line, word) in forbidden(&blank(&source)) {
            if ALLOWED.iter().any(|(file, allowed, _)| *file == path && *allowed == word) {
                unused.retain(|(file, allowed, _)| *file != path || *allowed != word);
            } else {
                faults.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    faults
        .extend(unused.iter().map(|(file, word, _)| format!("{file}: {word} is allowed, but is not there")));
    assert_tidy(faults);
}

#[test]
fn no_line_names_a_directory_of_the_computer_it_was_written_on() {
    // Proves that a clean clone works elsewhere: nothing points into somebody's home.
    let mut faults = Vec::new();
    for (path, text) in files(Path::new(env!("CARGO_MANIFEST_DIR")), "") {
        faults.extend(home_paths(&text).into_iter().map(|line| format!("{path}:{line}: a home directory")));
    }
    assert_tidy(faults);
}

#[track_caller]
fn assert_tidy(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

// The checks. Each takes blanked source (see `blank`) and answers `line: fault`.

fn long_functions(code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, word) in words(code) {
        // `fn(u8) -> u8` is a type, and a function of a trait may have no body.
        let name = code[at + word.len()..].trim_start().split(|c| !is_ident(c)).next().unwrap_or_default();
        let Some(body) = body_start(code, at).filter(|_| word == "fn" && !name.is_empty()) else { continue };
        let first = line_of(code, at);
        let lines = line_of(code, matching_brace(code, body)) - first + 1;
        if lines > MAX_FUNCTION_LINES {
            faults.push(format!("{first}: fn {name} has {lines} lines, at most {MAX_FUNCTION_LINES}"));
        }
    }
    faults
}

fn wrong_imports(path: &str, code: &str) -> Vec<String> {
    let modules: Vec<&str> = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let room = modules[0];
    // The crate's root only declares the rooms.
    if room == "lib" {
        return Vec::new();
    }
    let Some(own) = layer(room) else {
        return vec![format!("1: {room} has no place in LAYERS")];
    };
    let mut faults = Vec::new();
    for (at, word) in words(code).filter(|(at, _)| !code[..*at].ends_with("::")) {
        let to_root = match word {
            "crate" => "crate::".to_owned(),
            // As many `super` as there are modules around lead to the root, too.
            "super" => "super::".repeat(modules.len() + inline_depth(code, at)),
            _ => continue,
        };
        let Some(rest) = code[at..].strip_prefix(&to_root) else { continue };
        for name in first_names(rest) {
            if layer(name).is_some_and(|met| met > own) {
                faults.push(format!("{}: {room} imports {name}, which comes later", line_of(code, at)));
            }
        }
    }
    faults
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn forbidden(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for &word in FORBIDDEN {
        let (outer, inner) = word.split_once("::").unwrap_or((word, ""));
        for (at, _) in code.match_indices(outer) {
            if code[..at].ends_with(is_ident) {
                continue;
            }
            let rest = &code[at + outer.len()..];
            let here = match rest.strip_prefix("::") {
                Some(path) if !inner.is_empty() => first_names(path).contains(&inner),
                _ => inner.is_empty() && !(outer.ends_with(is_ident) && rest.starts_with(is_ident)),
            };
            if here {
                found.push((line_of(code, at), word));
            }
        }
    }
    found
}

fn home_paths(text: &str) -> Vec<usize> {
    // Written so that this file does not name them either.
    let homes = ["home", "root", "work", "Users"].map(|name| format!("/{name}/"));
    let absolute = |line: &str, home: &str| {
        let part_of_a_longer_path = |c: char| c.is_alphanumeric() || "._-~})".contains(c);
        line.match_indices(home).any(|(at, _)| !line[..at].ends_with(part_of_a_longer_path))
    };
    let at_fault = |line: &str| homes.iter().any(|home| absolute(line, home));
    text.lines().enumerate().filter(|(_, line)| at_fault(line)).map(|(index, _)| index + 1).collect()
}

// Reading the tree.

fn rust_files(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = folders.iter().flat_map(|folder| files(&root.join(folder), folder));
    all.filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// Every text file below a folder: its path from the project's root, with `/`, and its text.
fn files(folder: &Path, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of a folder").path();
        let own_name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let full_name = if name.is_empty() { own_name.clone() } else { format!("{name}/{own_name}") };
        if path.is_symlink() || NOT_OURS.contains(&own_name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, &full_name));
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((full_name, text));
        }
    }
    found
}

// Proof that each check can fail.

#[test]
fn a_long_function_is_found_wherever_it_stands() {
    // Proves that braces in literals and comments do not hide the end of a function, and that types are no functions.
    let body =
        "    let x = (\"}\", '}', r#\"}\"}\"#, b'\\'', \"\\\"}\"); // }\n".repeat(MAX_FUNCTION_LINES - 2);
    let at_most = format!("trait T {{ fn none(); }}\nfn f<'a>(g: fn(u8), n: [u8; 2]) {{\n{body}}}\n");
    let too_long = at_most.replace("}\n}", "}\n/* } /* } */ } */\n}").replace("// }\n}", "// }\n/* } */\n}");
    assert_eq!(long_functions(&blank(&at_most)), [""; 0]);
    assert_eq!(long_functions(&blank(&too_long)), ["2: fn f has 71 lines, at most 70"]);
    let nested = format!("mod tests {{\n    #[test]\n    async fn f() {{\n{body}\n\n}} }}");
    assert_eq!(long_functions(&blank(&nested)).len(), 1);
}

#[test]
fn an_import_of_a_later_room_is_found_in_every_spelling() {
    // Proves that the direction is checked for groups, paths in code, `super`, and rooms that nobody put in the table.
    let faults = |path: &str, code: &str| wrong_imports(path, &blank(code)).len();
    for bad in [
        "use crate::upstream::Client;",
        "use crate::{clock::Clock, upstream};",
        "use crate::{\n    route::{self, Facts},\n    pages::Page,\n};",
        "fn f() { let x = crate::broker::new(); }",
        "use super::super::app;",
        "mod tests { use super::super::super::app; }",
    ] {
        assert_eq!(faults("src/policy/rate.rs", bad), 1, "{bad}");
    }
    for good in [
        "use crate::identity::Identity; use crate::{secret, policy::Permit};",
        "// use crate::upstream::Client;\nconst X: &str = \"crate::upstream\";",
        "pub(crate) app: u8, other::crate::app, super::app, mycrate::app",
        "mod tests { use super::super::app; }",
        "use crate::route::{app, broker::upstream};",
    ] {
        assert_eq!(faults("src/policy/rate.rs", good), 0, "{good}");
    }
    assert_eq!(faults("src/upstream.rs", "mod tests { fn f() {} } use super::{app, route};"), 1);
    assert_eq!(faults("src/main.rs", "use crate::app;"), 0);
    assert_eq!(wrong_imports("src/utils.rs", ""), ["1: utils has no place in LAYERS"]);
}

#[test]
fn skipped_tests_and_sleeps_are_found_in_every_spelling() {
    // Proves that an import hides nothing, and that mere words in text are not mistaken for code.
    let words = |code: &str| forbidden(&blank(code)).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
    assert_eq!(words("#[test]\n#[ignore = \"slow\"]\nfn f() { todo!() }"), ["#[ignore", "todo!"]);
    assert_eq!(words("use std::{fmt, thread::{self, sleep}};"), ["thread::sleep"]);
    assert_eq!(words("std::thread::sleep(x); tokio::time::sleep(y).await"), ["thread::sleep", "time::sleep"]);
    assert_eq!(
        words("// todo!\ntime::sleep_until(x); time::timeout(y); f(\"time::sleep\"); mytodo!()"),
        [""; 0]
    );
}

#[test]
fn a_home_directory_is_found_but_not_in_an_address() {
    // Proves that absolute paths are found where they begin, and that parts of longer paths are left alone.
    let home = |text: &str| home_paths(&text.replace('~', "/"));
    assert_eq!(home("a\nCA=~home~me/ca.crt\n(~root~x) ~Users~me"), [2, 3]);
    assert_eq!(home("https://host~home~x ./~ok $dir~root~x {dir}~work~x ~workshop~x"), [0; 0]);
}
