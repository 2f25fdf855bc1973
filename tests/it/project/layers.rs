//! Who may know whom, as `ARCHITECTURE.md` has it: lower rows know nothing of higher ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rows, from the ground up.
const LAYERS: [&[&str]; 11] = [
    &["model"],
    &["cookie", "policy", "route", "token"],
    &["oidc", "saml", "session"],
    &["engine"],
    &["login"],
    &[
        "catalog",
        "config",
        "geo",
        "http_client",
        "idp",
        "observe",
        "pages",
        "store",
    ],
    &["control"],
    &["portal"],
    &["gate"],
    &["front"],
    &["app", "demo", "review"],
];

/// Modules of one row that know each other, and why. This list may only shrink.
const MUTUAL: [(&str, &str, &str); 0] = [];

/// Modules that know a higher row, and why. This list may only shrink.
const UPWARD: [(&str, &str, &str); 0] = [];

/// Who may name Pingora.
const PINGORA: [&str; 3] = ["src/front/pingora/", "src/app/", "src/demo/"];

#[test]
fn every_module_has_a_row() {
    let listed: BTreeSet<_> = LAYERS.concat().into_iter().map(str::to_owned).collect();
    let there: BTreeSet<_> = sources()
        .into_iter()
        .filter_map(|file| module_of(&file))
        .collect();
    assert_eq!(there, listed, "src and the table");
}

#[test]
fn lower_rows_know_nothing_of_higher_ones() {
    let mut wrong = Vec::new();
    let mut upward: BTreeSet<_> = UPWARD.iter().map(|(from, to, _)| (*from, *to)).collect();
    let uses = uses();
    for ((from, to), places) in &uses {
        if layer(to) > layer(from) && !upward.remove(&(from.as_str(), to.as_str())) {
            wrong.push(format!(
                "`{from}` knows `{to}`, which is above it: {}",
                places.join(", ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        upward.is_empty(),
        "no exceptions any more, take them off the list: {upward:?}"
    );
    assert!(uses.len() > 40, "the uses were not found: {uses:?}");
}

#[test]
fn within_a_row_knowledge_goes_one_way() {
    let uses = uses();
    let knows = |from: &str, to: &str| uses.contains_key(&(from.to_owned(), to.to_owned()));
    let mutual: Vec<_> = LAYERS
        .iter()
        .flat_map(|row| {
            row.iter()
                .flat_map(|one| row.iter().map(move |other| (*one, *other)))
        })
        .filter(|(one, other)| one < other && knows(one, other) && knows(other, one))
        .collect();
    assert_eq!(
        mutual,
        MUTUAL.map(|(one, other, _)| (one, other)),
        "found, and on the list"
    );
}

#[test]
fn pingora_stays_at_the_front() {
    for file in sources() {
        let name = file.display().to_string();
        let code = code(&file);
        let found = code
            .lines()
            .find(|line| names(line, "pingora").next().is_some());
        if let (Some(line), false) = (found, PINGORA.iter().any(|place| name.contains(place))) {
            panic!("{name} names Pingora: {line}");
        }
    }
}

#[test]
fn paths_are_found_in_every_form() {
    let found = |text, depth| referred(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use crate::model::{self, Host};", 1), ["model"]);
    assert_eq!(
        found("use crate::{cookie, model::{Host, Aud}, route as r};", 1),
        ["cookie", "model", "route"]
    );
    assert_eq!(found("let x = crate::engine::decide();", 2), ["engine"]);
    assert_eq!(
        found("pub(crate) fn f() {} pub(in crate::login) fn g() {}", 1),
        ["login"]
    );
    assert_eq!(found("use super::engine::X;", 1), ["engine"]);
    assert_eq!(
        found("use super::engine::X; use super::super::portal;", 2),
        ["portal"]
    );
    assert_eq!(
        found("use self::x; use somecrate::y; mycrate::z();", 1),
        Vec::<String>::new()
    );
}

/// Which module refers to which other, and in which files.
fn uses() -> BTreeMap<(String, String), Vec<String>> {
    let mut uses: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for file in sources() {
        let Some(module) = module_of(&file) else {
            continue;
        };
        // How many `super` lead to the root: `src/a.rs` and `src/a/mod.rs` are one below it.
        let inside = file
            .strip_prefix(source_root())
            .unwrap()
            .components()
            .count();
        let depth = if file.ends_with("mod.rs") {
            inside - 1
        } else {
            inside
        };
        for other in referred(&code(&file), depth)
            .into_iter()
            .filter(|other| *other != module)
        {
            uses.entry((module.clone(), other))
                .or_default()
                .push(file.display().to_string());
        }
    }
    uses
}

/// The modules at the root that some code refers to.
fn referred(code: &str, depth: usize) -> BTreeSet<String> {
    let root = "super::".repeat(depth);
    let by_super = code
        .match_indices(&root)
        .filter(|(at, _)| !code[..*at].ends_with("super::"));
    let by_super = by_super
        .map(|(at, found)| &code[at + found.len()..])
        .filter(|rest| !rest.starts_with("super::"));
    names(code, "crate")
        .chain(by_super)
        .flat_map(heads)
        .collect()
}

/// What follows each `name::`.
fn names<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let found = code
        .match_indices(name)
        .filter(move |(at, _)| !code[..*at].ends_with(word));
    found.filter_map(|(at, found)| code[at + found.len()..].strip_prefix("::"))
}

/// The first names of a path, or of each path in braces.
fn heads(path: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(list) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut rest = list;
    let mut at_start = true;
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                heads.push(word(rest));
                at_start = false;
            }
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    heads
}

/// A file's code: without comments, and without what is only there for tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text
        .split_once("\n#[cfg(test)]\nmod tests {")
        .map_or(text.as_str(), |(before, _)| before);
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|row| row.contains(&module))
        .unwrap_or_else(|| panic!("`{module}` has no row"))
}

/// The module at the root that a file belongs to; none for `lib.rs` and the files of the binary.
fn module_of(file: &Path) -> Option<String> {
    let first = file
        .strip_prefix(source_root())
        .unwrap()
        .components()
        .next()
        .unwrap();
    let first = Path::new(first.as_os_str());
    let name = first.file_stem().unwrap().to_str().unwrap();
    (!matches!(name, "lib" | "main" | "commands")).then(|| name.to_owned())
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files that are not tests.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![source_root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !matches!(name, "tests.rs" | "testing.rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
