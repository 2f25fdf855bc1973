//! Tokens of other applications.

use serde_json::json;

use super::*;

#[test]
fn linked_token_is_removed_from_the_forwarded_request() {
    let node = node();
    let permit = |with: &[&str]| match get("behind", with).decide(&node, NOW).unwrap() {
        Decision::Forward(permit) => permit,
        other => panic!("{}", describe(&other)),
    };
    let linked = permit(&["bearer alice wiki"]);
    assert!(
        linked.takes_authorization() && linked.assertion().is_none() && linked.session().is_none()
    );
    assert_eq!(linked.email().unwrap().as_str(), "alice@example.com");
    let Some(ServiceClient::LinkedApp { application, .. }) = linked.service_client() else {
        panic!()
    };
    assert_eq!(application.settings().id, "wiki");
    // In our own header, which never goes on; `Authorization` is the application's then.
    let linked = permit(&["header alice wiki", "bearer raw the application's own"]);
    assert!(!linked.takes_authorization() && linked.service_client().is_some());
    let own = permit(&["cookie alice behind", "bearer raw the application's own"]);
    assert!(!own.takes_authorization() && own.assertion().is_some());
    // It counts for rules about it, and for nothing else.
    let mut policies = WORLD.applications.clone();
    let behind = policies
        .iter_mut()
        .find(|app| app.name == "behind")
        .unwrap();
    behind.policies[0].require =
        vec![serde_json::from_value(json!({"ip": {"ip": "10.0.0.0/8"}})).unwrap()];
    let strict = compile(2, cases::TEAM_DOMAIN, &policies, node.cache());
    assert_eq!(
        get("behind", &["bearer alice wiki"]).ask(&strict, NOW),
        "deny no_policy_applied"
    );
    assert_eq!(
        get("behind", &["bearer alice app"]).ask(&strict, NOW),
        "log in redirect no_session"
    );
    // It admits no user that its own application would deny for the same request.
    assert!(
        get("wiki", &["cookie ivan wiki"])
            .ask(&node, NOW)
            .starts_with("deny")
    );
    assert_eq!(
        get("behind", &["bearer ivan wiki"]).ask(&node, NOW),
        "log in redirect no_session"
    );
    for excluded in [
        json!({"email": {"email": "alice@example.com"}}),
        json!({"ip": {"ip": "0.0.0.0/0"}}),
    ] {
        let mut policies = WORLD.applications.clone();
        let wiki = policies.iter_mut().find(|app| app.name == "wiki").unwrap();
        wiki.policies[0].exclude = vec![serde_json::from_value(excluded).unwrap()];
        let changed = compile(3, cases::TEAM_DOMAIN, &policies, node.cache());
        assert_eq!(
            get("behind", &["bearer alice wiki"]).ask(&changed, NOW),
            "log in redirect no_session"
        );
        assert_eq!(
            get("behind", &["bearer erin partners"]).ask(&changed, NOW),
            "forward behind as anonymous by `the wiki`"
        );
    }
}

#[test]
fn linked_token_is_taken_from_every_authorization_line() {
    let node = node();
    let open = open_behind(&node);
    let token = MINT.token(WORLD.person("alice"), "wiki", "");
    let [bearer, basic] = [format!("Bearer {token}"), "Basic YTpi".to_owned()];
    let odd = [
        format!("bearer  {token}"),
        format!("Bearer\t{token}"),
        format!("Token {token}"),
        format!("Bearer {token}, {basic}"),
    ];
    let lines = [
        vec![bearer.clone(), bearer.clone()],
        vec![basic.clone(), bearer.clone()],
        vec![bearer.clone(), basic.clone()],
    ];
    for lines in odd.into_iter().map(|line| vec![line]).chain(lines) {
        for with in [&["header alice wiki"][..], &["cookie alice behind"]] {
            assert!(takes(&node, with, &lines), "{with:?} {lines:?}");
        }
        for with in [&[][..], &["service ci wrong"], &["service late"]] {
            assert!(takes(&open, with, &lines), "{with:?} {lines:?}");
        }
    }
    assert!(takes(&open, &["service ci wrong"], &[bearer]));
    let none: [&[String]; 4] = [
        &[],
        &[basic.clone(), basic],
        &[format!(
            "Bearer {}",
            MINT.token(WORLD.person("alice"), "app", "")
        )],
        &[format!(
            "Bearer {}",
            MINT.token(WORLD.person("alice"), "wiki", "forged")
        )],
    ];
    for lines in none {
        assert!(!takes(&node, &["header alice wiki"], lines), "{lines:?}");
        assert!(!takes(&open, &["service ci wrong"], lines), "{lines:?}");
    }
}

#[test]
fn linked_token_behind_many_forged_ones_reaches_no_origin() {
    let open = open_behind(&node());
    let token = MINT.token(WORLD.person("alice"), "wiki", "");
    let (message, _) = token.rsplit_once('.').unwrap();
    let forged = (0..500)
        .map(|i| format!("{message}.{i:04}{}", "A".repeat(342 - 4)))
        .collect::<Vec<_>>()
        .join(" ");
    assert!(takes(&open, &[], &[format!("Bearer {forged} {token}")]));
}

/// The application behind the wiki, open to all users.
fn open_behind(node: &Snapshot) -> Snapshot {
    let mut applications = WORLD.applications.clone();
    let behind = applications
        .iter_mut()
        .find(|app| app.name == "behind")
        .unwrap();
    let policy = json!({"name": "open", "decision": "bypass", "include": [{"everyone": {}}]});
    behind
        .policies
        .insert(0, serde_json::from_value(policy).unwrap());
    compile(2, cases::TEAM_DOMAIN, &applications, node.cache())
}

/// Returns `true` if the permit for a request with these `Authorization` lines withholds them from
/// the origin.
fn takes(node: &Snapshot, with: &[&str], lines: &[String]) -> bool {
    let mut request = get("behind", with);
    for line in lines {
        request
            .headers
            .append(http::header::AUTHORIZATION, line.parse().unwrap());
    }
    match request.decide(node, NOW).unwrap() {
        Decision::Forward(permit) => permit.takes_authorization(),
        other => panic!("{}", describe(&other)),
    }
}
