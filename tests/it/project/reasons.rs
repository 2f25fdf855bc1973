//! `docs/reasons.md` has every reason id that a page or the log can show, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The text before a reason id in the code.
const BEFORE: &[&str] = &[
    "with_reason(\"",
    "login_refused(\"",
    "bad_request(request, \"",
    "reason: Some(\"",
    "reason: \"",
    "const REASON: &str = \"",
    "(id), \"",
];
/// Files in which a match makes the ids, and the function that does.
const MATCHES: &[(&str, &str, &str)] = &[
    ("model/reason.rs", "fn id(", "=> \""),
    ("idp/failure/reason.rs", "fn id(", "=> \""),
    ("idp/okta/api.rs", "fn inactive_reason(", "Some(\""),
];

#[test]
fn every_reason_is_documented() {
    let written = ids_of_the_code();
    assert!(written.len() > 60, "{written:?}");
    let documented = ids_of_the_document();
    let missing: Vec<_> = written.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/reasons.md: {missing:?}");
    let unknown: Vec<_> = documented.difference(&written).collect();
    assert!(
        unknown.is_empty(),
        "in docs/reasons.md, and nowhere in the code: {unknown:?}"
    );
}

#[test]
fn okta_table_quotes_only_what_users_and_operators_see() {
    let okta = read(&root().join("docs/okta.md"));
    let (_, table) = okta.split_once("| message | cause | remedy |\n").unwrap();
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let sources: Vec<String> = sources()
        .into_iter()
        .map(|(_, text)| text.replace("\\\n", ""))
        .collect();
    let known = ids_of_the_code();
    let mut quoted = 0;
    for cell in rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned()) {
        // Okta's own texts are not in our code.
        let cell = cell.split("Okta's ").next().unwrap();
        let words = cell.split('*').skip(1).step_by(2).map(str::to_owned);
        for words in words.map(|words| words.trim_end_matches('.').to_owned()) {
            assert!(
                sources.iter().any(|source| source.contains(&words)),
                "no page says *{words}*"
            );
            quoted += 1;
        }
        for id in cell
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|id| !id.contains([' ', '/']))
        {
            assert!(known.contains(id), "`{id}` is no reason");
            quoted += 1;
        }
    }
    assert!(quoted >= 8, "{quoted}");
}

fn ids_of_the_code() -> BTreeSet<String> {
    let sources = sources();
    for (file, ..) in MATCHES {
        let exists = sources.iter().any(|(name, _)| name.ends_with(file));
        assert!(exists, "there is no `{file}`");
    }
    let mut ids = BTreeSet::new();
    for (name, text) in sources {
        for before in BEFORE {
            ids.extend(text.split(before).skip(1).filter_map(id_at));
        }
        for (_, function, before) in MATCHES.iter().filter(|(file, ..)| name.ends_with(file)) {
            let (_, body) = text
                .split_once(function)
                .unwrap_or_else(|| panic!("{name} has no `{function}`"));
            let body = body.split("\n    }\n").next().unwrap();
            let body = body.split_whitespace().collect::<Vec<_>>().join(" ");
            // rustfmt puts long arms into braces.
            let body = body.replace("=> { \"", "=> \"");
            let found: Vec<_> = body.split(before).skip(1).filter_map(id_at).collect();
            assert!(found.len() >= 3, "{name}: {found:?}");
            ids.extend(found);
        }
    }
    ids
}

/// The id up to the next quote, if it is one.
fn id_at(rest: &str) -> Option<String> {
    let (id, _) = rest.split_once('"')?;
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_id.then(|| id.to_owned())
}

fn ids_of_the_document() -> BTreeSet<String> {
    let text = read(&root().join("docs/reasons.md"));
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut ids = BTreeSet::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [id, meaning, remedy] = cells.as_slice() else {
            panic!("three cells: {row}")
        };
        assert!(meaning.len() > 10 && remedy.len() > 3, "{row}");
        assert!(ids.insert(id.trim_matches('`').to_owned()), "twice: {row}");
    }
    ids
}

/// The files of `src` but for its tests, without their comments and `#[cfg(test)]` parts; templates
/// as they are.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "tests" {
                    folders.push(path);
                }
            } else if name != "tests.rs" && name.ends_with(".rs") {
                let text = read(&path);
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let lines = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                found.push((
                    path.to_str().unwrap().to_owned(),
                    lines.collect::<Vec<_>>().join("\n") + "\n",
                ));
            } else if name.ends_with(".html") {
                found.push((path.to_str().unwrap().to_owned(), read(&path)));
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
