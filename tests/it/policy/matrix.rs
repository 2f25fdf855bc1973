//! People × applications → decision, through everything: the certified provider, the login, the
//! engine, the proxy. The golden file is reviewed by hand; a difference is a decision that changed.

use std::fmt::Write;

use serde_json::json;

use crate::support::{Browser, Config, Okta, Origin, Portcullis, at, okta};

const GOLDEN: &str = include_str!("../../golden/matrix.txt");

const PEOPLE: &[&str] = &[
    "zero",
    "alice",
    "bob",
    "hundred",
    "carol",
    "unicode",
    "unverified",
    "upper",
];

/// Name of the application, which is also its host, and its policies.
const APPLICATIONS: &[(&str, &str)] = &[
    (
        "open",
        r#"[{ name = "p", decision = "bypass", include = [{ everyone = {} }] }]"#,
    ),
    (
        "members",
        r#"[{ name = "p", decision = "allow", include = [{ everyone = {} }] }]"#,
    ),
    (
        "staff",
        r#"[{ name = "p", decision = "allow", include = [{ email_domain = { domain = "example.com" } }] }]"#,
    ),
    (
        "one",
        r#"[{ name = "p", decision = "allow", include = [{ email = { email = "Alice@Example.com" } }] }]"#,
    ),
    (
        "engineers",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "Engineering" }] }]"#,
    ),
    (
        "finance",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "Finance" }] }]"#,
    ),
    (
        "either",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "Engineering" }, { GROUP = "Finance" }] }]"#,
    ),
    (
        "both",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "Engineering" }], require = [{ GROUP = "SRE" }] }]"#,
    ),
    (
        "no-money",
        r#"[{ name = "p", decision = "allow", include = [{ everyone = {} }], exclude = [{ GROUP = "Finance" }] }]"#,
    ),
    (
        "deny-1st",
        r#"[{ name = "d", decision = "deny", include = [{ GROUP = "Engineering" }] }, { name = "p", decision = "allow", include = [{ everyone = {} }] }]"#,
    ),
    (
        "number100",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "h-100" }] }]"#,
    ),
    (
        "last150",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "zz-last-allowed" }] }]"#,
    ),
    (
        "umlaut",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "Größe" }] }]"#,
    ),
    (
        "comma",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "On Call, EU" }] }]"#,
    ),
    (
        "case",
        r#"[{ name = "p", decision = "allow", include = [{ GROUP = "engineering" }] }]"#,
    ),
    (
        "nested",
        r#"[{ name = "p", decision = "allow", include = [{ group = { id = "outer" } }] }]"#,
    ),
    (
        "via-okta",
        r#"[{ name = "p", decision = "allow", include = [{ login_method = { id = "okta" } }] }]"#,
    ),
    (
        "from-lan",
        r#"[{ name = "p", decision = "allow", include = [{ everyone = {} }], require = [{ ip = { ip = "192.0.2.0/24" } }] }]"#,
    ),
    (
        "nobody",
        r#"[{ name = "p", decision = "allow", include = [{ email = { email = "nobody@example.com" } }] }]"#,
    ),
];

const GROUPS: &str = r#"
[[groups]]
id = "outer"
name = "Outer"
include = [{ group = { id = "inner" } }]

[[groups]]
id = "inner"
name = "Inner"
include = [{ GROUP = "Finance" }]
exclude = [{ email = { email = "alice@example.com" } }]
"#;

fn configuration() -> String {
    let mut text = GROUPS.to_owned();
    for (name, policies) in APPLICATIONS {
        let auto = r#"allowed_idps = ["okta"]
auto_redirect_to_identity = true"#;
        let auto = if *name == "open" { "" } else { auto };
        write!(
            text,
            "\n[[applications]]\nname = \"{name}\"\ndomain = \"{name}.$TLD\"\norigin = \"$ORIGIN\"\n{auto}\npolicies = {policies}\n"
        )
        .unwrap();
    }
    let mut parts = text.split("GROUP = \"");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (group, rest) = part.split_once('"').unwrap();
        write!(
            text,
            "okta = {{ name = \"{group}\", identity_provider_id = \"okta\" }}{rest}"
        )
        .unwrap();
    }
    text
}

#[tokio::test]
async fn matrix_of_users_and_pages_matches() {
    let (okta, origin) = (
        Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]),
        Origin::start().await,
    );
    okta.control(json!({ "overLimit": "truncate" })).await;
    let mut config = Config::new(&okta.issuer, &configuration());
    config.api_token = Some(okta::API_TOKEN.to_owned());
    let proxy = Portcullis::start(at(config, &origin.url("http"))).await;

    let mut found = format!("{:<11}", "");
    for person in PEOPLE {
        write!(found, "{person:<11}").unwrap();
    }
    for (application, _) in APPLICATIONS {
        write!(found, "\n{application:<11}").unwrap();
        for person in PEOPLE {
            origin.forget();
            let mut browser = Browser::new(&proxy);
            let page = browser
                .open_as(
                    &format!("http://{application}.localhost/"),
                    &format!("{person}@example.com"),
                )
                .await;
            let decision = match (page.response.status, origin.seen().len()) {
                (200, 1) => "allow",
                (400..=403, 0) => "-",
                other => panic!(
                    "{person} at {application}: status and requests at the origin are {other:?}"
                ),
            };
            write!(found, "{decision:<11}").unwrap();
        }
    }
    let found: Vec<_> = found.lines().map(str::trim_end).collect();
    let golden: Vec<_> = GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(found, golden, "found:\n{}", found.join("\n"));
}
