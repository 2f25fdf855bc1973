//! The case table and the golden matrix.

use std::fmt::Write as _;

use super::*;

/// Returns the node in the state of a case. `before` are the answers before that state.
fn in_state(snapshot: &Snapshot, state: &str) -> Snapshot {
    let Some(keys) = MINT.keys(state, after(30)) else {
        // The keys of the team were never fetched.
        let cache = Arc::new(NodeCache::new(1_000));
        return compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &cache);
    };
    // Keys that stayed are not published again: sessions that began with them go on.
    if !state.ends_with("revoked") && !state.is_empty() {
        snapshot.cache().set_keys(snapshot.issuer(), keys);
    }
    let mut ended = Revocations::default();
    let (alice, never) = (WORLD.person("alice"), UnixTime(u64::MAX));
    match state {
        "session revoked" => ended.end_session(alice.nonce(), never),
        "user revoked" => ended.end_user(alice.user(), Until::Revision(cases::REVISION + 1), never),
        "user formerly revoked" => {
            ended.end_user(alice.user(), Until::Revision(cases::REVISION), never)
        }
        "heidi revoked" => ended.end_user(
            WORLD.person("heidi").user(),
            Until::Revision(cases::REVISION + 1),
            never,
        ),
        "application revoked" => ended.end_application(aud("wiki"), NOW, never),
        "revocations stale" => snapshot.cache().set_revocations_good_until(NOW),
        _ => {}
    }
    snapshot.with_revocations(Arc::new(ended))
}

/// Leaves the node as after fetches that all failed.
fn learn_nothing(snapshot: &Snapshot) {
    let cache = snapshot.cache();
    let keys = cache.keys(snapshot.issuer());
    let (keys, good_until) = keys.map_or((None, UnixTime(0)), |keys| {
        (keys.keys.clone(), keys.good_until)
    });
    cache.set_keys(
        snapshot.issuer(),
        IssuerKeys {
            keys,
            good_until,
            retry_from: after(30),
        },
    );
    for person in WORLD
        .people
        .iter()
        .filter(|person| cache.identity(&person.nonce()).is_none())
    {
        cache.set_identity(
            person.nonce(),
            IdentityState::Unavailable {
                retry_from: after(2),
            },
        );
    }
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
            tls: None,
        };
        // Three nodes: without the token, after one request, and with a session from before the
        // change.
        let fresh = in_state(&node(), &case.node);
        assert_eq!(request.ask(&fresh, NOW), case.expect, "{id}");
        assert_eq!(request.ask(&fresh, NOW), case.expect, "{id}, again");
        let settled = node();
        request.ask(&settled, NOW);
        let changed = in_state(&settled, &case.node);
        assert_eq!(request.ask(&changed, NOW), case.expect, "{id}, seen before");
        // The same after a reload that changed nothing.
        let reloaded = compile(2, cases::TEAM_DOMAIN, &WORLD.applications, changed.cache());
        let reloaded = reloaded.with_revocations(Arc::clone(changed.revocations()));
        assert_eq!(
            request.ask(&reloaded, NOW),
            case.expect,
            "{id}, after a reload"
        );
        assert_eq!(
            case.expect.starts_with("resolve "),
            case.unlearned.is_some(),
            "{id}"
        );
        if let Some(unlearned) = &case.unlearned {
            learn_nothing(&fresh);
            // Fronts treat a need that remains after one attempt as this.
            let answer = request.ask(&fresh, NOW);
            let unresolved = answer.starts_with("resolve ");
            let answer = if unresolved {
                "unavailable identity_unavailable".to_owned()
            } else {
                answer
            };
            assert_eq!(answer, *unlearned, "{id}, when that cannot be learned");
        }
    }
}

/// People × applications → decision, each with a good token for the place they ask for.
#[test]
fn users_and_applications_match_the_golden_matrix() {
    let node = node();
    let mut rows = vec![
        WORLD
            .applications
            .iter()
            .fold(vec![String::new()], |mut row, app| {
                row.push(app.name.clone());
                row
            }),
    ];
    for name in WORLD
        .people
        .iter()
        .map(|person| person.name.as_str())
        .chain(["anybody"])
    {
        let cell = |app: &App| {
            let credential = format!("cookie {name} {}", app.name);
            let with: &[&str] = if name == "anybody" {
                &[]
            } else {
                &[&credential]
            };
            match get(&app.name, with).decide(&node, NOW).unwrap() {
                Decision::Forward(permit) if permit.session().is_some() => "yes".to_owned(),
                Decision::Forward(_) => "bypass".to_owned(),
                Decision::LogIn(_) => "log in".to_owned(),
                Decision::Deny(refusal) if refusal.reason == Reason::IdentityIncomplete => {
                    "unknown".to_owned()
                }
                Decision::Deny(_) => "-".to_owned(),
                Decision::Unavailable(_) => "unknown".to_owned(),
                Decision::Resolve(_) => "ask".to_owned(),
                other => describe(&other),
            }
        };
        rows.push(
            [name.to_owned()]
                .into_iter()
                .chain(WORLD.applications.iter().map(cell))
                .collect(),
        );
    }
    let mut text =
        "# Who may open what: people against applications, as `tests/cases/decisions.toml` describes them.\n\
        # `-` is a refusal, `unknown` one for want of knowledge, `ask` means that a record must be learned first.\n"
            .to_owned();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].len())
                .max()
                .unwrap_or_default()
                + 2;
            write!(line, "{cell:width$}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/decisions.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        text, reviewed,
        "the matrix changed: review it, then UPDATE_GOLDEN=1"
    );
}
