//! The case table and the golden matrix.

use std::fmt::Write as _;

use super::*;

/// The node in the state that a case asks for. `before` are answers to what was asked while all was well.
fn in_state(snapshot: &Snapshot, state: &str) -> Snapshot {
    let known = snapshot.known();
    let set_keys = |keys: IssuerKeys| known.set_keys(snapshot.issuer(), keys);
    let mut ended = Revocations::default();
    let alice = WORLD.person("alice");
    let (kid, key, other) = (MINT.key.kid(), &MINT.key, &MINT.stranger);
    match state {
        "" => {}
        "may fetch" => set_keys(IssuerKeys { retry_from: NOW, ..good_keys() }),
        "keys stale" => set_keys(IssuerKeys { good_until: NOW, ..good_keys() }),
        "keys failing" => set_keys(IssuerKeys { keys: None, ..good_keys() }),
        "keys changed" => set_keys(IssuerKeys { keys: Some(key_set(&[("other", other)])), ..good_keys() }),
        "keys changed, names kept" => set_keys(IssuerKeys { keys: Some(key_set(&[(kid, other)])), ..good_keys() }),
        "key added" => set_keys(IssuerKeys { keys: Some(key_set(&[("other", other), (kid, key)])), ..good_keys() }),
        "session revoked" => ended.end_session(alice.nonce()),
        "user revoked" => ended.end_user(alice.user(), UnixTime(NOW.0 - 1)),
        "application revoked" => ended.end_application(aud("wiki"), NOW),
        // Nothing was ever known of the team.
        "keys unseen" => {
            let known = Arc::new(Known::new(1_000));
            return compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &known);
        }
        _ => panic!("no node is in the state `{state}`"),
    }
    snapshot.with_revocations(Arc::new(ended))
}

#[test]
fn every_case() {
    for (id, case) in &WORLD.cases {
        let (method, host, path, query) = case.target();
        let request = Raw {
            method: method.parse().unwrap(),
            host,
            path,
            query,
            headers: WORLD.headers(case, &MINT),
            client: case.from.unwrap_or(WORLD.client),
        };
        // A node that sees it for the first time; again; and one that knew the session before the state came about.
        let fresh = in_state(&node(), &case.node);
        assert_eq!(request.ask(&fresh, NOW), case.expect, "{id}");
        assert_eq!(request.ask(&fresh, NOW), case.expect, "{id}, again");
        let settled = node();
        request.ask(&settled, NOW);
        let changed = in_state(&settled, &case.node);
        assert_eq!(request.ask(&changed, NOW), case.expect, "{id}, seen before");
        // The same after a reload that changed nothing.
        let reloaded = compile(2, cases::TEAM_DOMAIN, &WORLD.applications, changed.known());
        let reloaded = reloaded.with_revocations(Arc::clone(changed.revocations()));
        assert_eq!(request.ask(&reloaded, NOW), case.expect, "{id}, after a reload");
    }
}

/// People × applications → decision, each with a good token for the place they ask for.
#[test]
fn golden_matrix() {
    let node = node();
    let mut rows = vec![WORLD.applications.iter().fold(vec![String::new()], |mut row, app| {
        row.push(app.name.clone());
        row
    })];
    for name in WORLD.people.iter().map(|person| person.name.as_str()).chain(["anybody"]) {
        let cell = |app: &App| {
            let credential = format!("cookie {name} {}", app.name);
            let with: &[&str] = if name == "anybody" { &[] } else { &[&credential] };
            match get(&app.name, with).decide(&node, NOW).unwrap() {
                Decision::Forward(permit) if permit.session().is_some() => "yes".to_owned(),
                Decision::Forward(_) => "bypass".to_owned(),
                Decision::LogIn(_) => "log in".to_owned(),
                Decision::Deny(refusal) if refusal.reason == Reason::IdentityIncomplete => "unknown".to_owned(),
                Decision::Deny(_) => "-".to_owned(),
                Decision::Unavailable(_) => "unknown".to_owned(),
                Decision::Resolve(_) => "ask".to_owned(),
                other => say(&other),
            }
        };
        rows.push([name.to_owned()].into_iter().chain(WORLD.applications.iter().map(cell)).collect());
    }
    let mut text =
        "# Who may open what: people against applications, as `tests/cases/decisions.toml` describes them.\n\
        # `-` is a refusal, `unknown` one for want of knowledge, `ask` means that a record must be learned first.\n"
            .to_owned();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].len()).max().unwrap_or_default() + 2;
            write!(line, "{cell:width$}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/decisions.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, reviewed, "the matrix changed: review it, then UPDATE_GOLDEN=1");
}
