//! Checks of the documents against the code: attacks and their tests, names on the wire, files and
//! links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn attacks_page_has_every_number_and_its_tests() {
    let (functions, mut numbered) = functions();
    for number in numbers_of_the_decision_table() {
        numbered
            .entry(number)
            .or_default()
            .insert("every_case".to_owned());
    }
    let path = root().join("docs/attacks.md");
    let page = read(&path);
    let mut rows = BTreeSet::new();
    let mut fresh = String::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let row = match cells.as_slice() {
            ["", number, attack, answer, tests, ""] if is_number(&number.to_lowercase()) => {
                assert!(
                    rows.insert(number.to_lowercase()),
                    "{number} is there twice"
                );
                let kept = tests
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|name| functions.contains(*name));
                let mut names: BTreeSet<String> = kept.map(str::to_owned).collect();
                names.retain(|name| name != "every_case" && numbers(name).is_empty());
                names.extend(
                    numbered
                        .get(&number.to_lowercase())
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                assert!(!names.is_empty(), "no test of {number}");
                format!("| {number} | {attack} | {answer} | {} |", names.join(" "))
            }
            _ => line.to_owned(),
        };
        fresh += &row;
        fresh.push('\n');
    }
    let missing: Vec<_> = numbered
        .keys()
        .filter(|number| !rows.contains(*number))
        .collect();
    assert!(missing.is_empty(), "not in docs/attacks.md: {missing:?}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &fresh).unwrap();
        return;
    }
    for (fresh, line) in fresh.lines().zip(page.lines()) {
        assert_eq!(fresh, line, "UPDATE_GOLDEN=1 writes the tests anew");
    }
}

/// Returns the names of all functions of the code and its tests, and those with the numbers of
/// attacks by number.
fn functions() -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut names, mut numbered) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<String>>::new());
    for file in ["src", "tests"]
        .into_iter()
        .flat_map(|folder| files(&root().join(folder), "rs"))
    {
        for part in read(&file).split("fn ").skip(1) {
            let end = part
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(part.len());
            let name = part[..end].to_owned();
            for number in numbers(&name) {
                numbered.entry(number).or_default().insert(name.clone());
            }
            names.insert(name);
        }
    }
    (names, numbered)
}

/// Returns the numbers that a test's name begins with: `h01_h06_every_spelling` has two, and `b64`
/// none.
fn numbers(name: &str) -> Vec<String> {
    let found: Vec<_> = name
        .split('_')
        .take_while(|part| is_number(part))
        .map(str::to_owned)
        .collect();
    if found.len() < name.split('_').count() {
        found
    } else {
        Vec::new()
    }
}

fn numbers_of_the_decision_table() -> BTreeSet<String> {
    let table = read(&root().join("tests/cases/decisions.toml"));
    let names = table
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.split(' ').next());
    names
        .filter(|word| is_number(word))
        .map(str::to_owned)
        .collect()
}

/// A letter and two digits.
fn is_number(word: &str) -> bool {
    matches!(word.as_bytes(), [b'a'..=b'z', b'0'..=b'9', b'0'..=b'9'])
}

#[test]
fn wire_page_names_every_cookie_header_and_endpoint() {
    let page = read(&root().join("docs/wire.md")).to_lowercase();
    let (mut names, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&root().join("src"), "rs") {
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_test = file
            .strip_prefix(root())
            .unwrap()
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        // Every quote may begin a literal: some are characters.
        let literals = code.split('"').skip(1).filter(|_| !is_test);
        for word in literals {
            let plain = word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            let ours = ["cf-", "cf_", "__host-"]
                .iter()
                .any(|start| word.to_lowercase().starts_with(start));
            if plain && ours {
                names.insert(word.to_lowercase());
            }
            if file.ends_with("route/endpoint.rs") && plain && !word.is_empty() {
                endpoints.insert(word.to_owned());
            }
        }
    }
    assert!(
        names.len() > 12 && endpoints.len() > 8,
        "{names:?} {endpoints:?}"
    );
    let missing: Vec<_> = names
        .iter()
        .chain(&endpoints)
        .filter(|name| !page.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not in docs/wire.md: {missing:?}");
}

#[test]
fn operations_page_names_every_metric() {
    let page = read(&root().join("docs/operations.md"));
    let code = read(&root().join("src/observe/metrics/families.rs"));
    let calls = code.split("family(").skip(1);
    let name = |call: &str| {
        call.trim_start()
            .strip_prefix('"')
            .and_then(|rest| rest.split('"').next())
            .map(str::to_owned)
    };
    let names: BTreeSet<String> = calls.filter_map(name).collect();
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut checked = 0;
    for page in &pages() {
        let text = read(page);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link
                .split_once('#')
                .map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            assert!(target.exists(), "{}: there is no `{file}`", page.display());
            if let Some(anchor) = anchor {
                let found = read(&target)
                    .lines()
                    .any(|line| line.starts_with('#') && self::anchor(line) == anchor);
                assert!(found, "{}: `{link}` names no heading", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn files_named_in_documents_exist() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for span in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|span| is_source_path(span))
        {
            for path in expanded(span) {
                let found = [root(), root().join("src")]
                    .iter()
                    .any(|folder| folder.join(&path).exists());
                assert!(found, "{}: there is no `{path}`", page.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn changelog_sections_occur_once_per_version() {
    let text = read(&root().join("CHANGELOG.md"));
    let (mut version, mut seen) = ("", BTreeSet::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            version = name;
        } else if let Some(section) = line.strip_prefix("### ") {
            assert!(
                seen.insert((version, section)),
                "`{section}` occurs twice in {version}"
            );
        }
    }
    assert!(seen.len() > 2, "{seen:?}");
}

/// Returns `true` for a path with a folder, such as `engine/decide.rs` or
/// `front/pingora/{tunnel,watch}.rs`.
fn is_source_path(span: &str) -> bool {
    let path = span
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-{},".contains(&b));
    path && span.contains('/') && !span.starts_with(['/', '.']) && span.ends_with(".rs")
}

fn expanded(span: &str) -> Vec<String> {
    match span
        .split_once('{')
        .and_then(|(start, rest)| Some((start, rest.split_once('}')?)))
    {
        Some((start, (names, end))) => names
            .split(',')
            .map(|name| format!("{start}{name}{end}"))
            .collect(),
        None => vec![span.to_owned()],
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    let more = [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "tests/saml/README.md",
    ];
    pages.extend(more.map(|page| root().join(page)));
    pages
}

/// Returns the anchor that a heading gets on the hosting platforms of Git.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if entry.is_dir() {
            if !entry.ends_with("node_modules") && !entry.ends_with(".tools") {
                found.extend(files(&entry, extension));
            }
        } else if entry.extension().is_some_and(|found| found == extension) {
            found.push(entry);
        }
    }
    found
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
