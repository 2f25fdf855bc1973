//! Changes of access between two configurations.

use super::*;

fn diff(old: &str, new: &str) -> Vec<(String, Access, String, String, Vec<String>)> {
    let diff = Diff::of_names(&world(old), &world(new), NOW).unwrap();
    let who = |change: Change| {
        let Change {
            application,
            access,
            old,
            new,
            who,
        } = change;
        (application, access, old, new, who.into_keys().collect())
    };
    diff.changes.into_iter().map(who).collect()
}

#[test]
fn time_is_accepted_without_quotes() {
    for at in ["\"2026-05-04T08:30:00Z\"", "2026-05-04T10:30:00+02:00"] {
        let asked: Asked = toml::from_str(&format!("url = \"grafana\"\nat = {at}")).unwrap();
        assert_eq!(asked.at.unwrap().0.as_second(), 1_777_883_400, "{at}");
    }
}

#[test]
fn configuration_compared_with_itself_has_no_changes() {
    let text = format!("{START}{GRAFANA}");
    assert_eq!(diff(&text, &text), []);
}

#[test]
fn change_lists_the_users_it_affects() {
    let old = format!("{START}{GRAFANA}");
    let deny = GRAFANA
        .lines()
        .find(|line| line.contains("no contractors"))
        .unwrap();
    let without_deny = old.replace(deny, "");
    let both = "okta Contractors of okta + okta `R&D <x>` of okta";
    let change = diff(&old, &without_deny);
    let [(application, Access::Gained, was, is, who)] = change.as_slice() else {
        panic!("{change:?}")
    };
    assert_eq!(
        (application.as_str(), was.as_str(), is.as_str()),
        (
            "Grafana",
            "deny by `no contractors`",
            "allow by `engineers`"
        )
    );
    assert!(
        who.iter().any(|who| who == both),
        "only those in both groups: {who:?}"
    );
    assert!(who.iter().all(|who| who.contains("Contractors")), "{who:?}");

    let narrower = old.replace("203.0.113.0/24", "203.0.113.0/25");
    let change = diff(&old, &narrower);
    let touched: Vec<_> = change
        .iter()
        .flat_map(|(_, access, _, _, who)| who.iter().map(move |who| (*access, who.as_str())))
        .collect();
    let lost = [
        (Access::Lost, "ip 203.0.113.255"),
        (Access::Lost, "not signed in + ip 203.0.113.255"),
    ];
    assert!(
        lost.iter().all(|lost| touched.contains(lost)),
        "{touched:?}"
    );
    assert!(
        touched.iter().all(|(_, who)| who.contains("203.0.113.255")),
        "the other end is where it was: {touched:?}"
    );
    let logs_in = (Access::Other, "ip 203.0.113.255 + okta `R&D <x>` of okta");
    assert!(
        touched.contains(&logs_in),
        "they get in as they did, but by logging in: {touched:?}"
    );

    let open = old.replace("{ group = { id = \"engineers\" } }", "{ everyone = {} }");
    let change = diff(&old, &open);
    let [(_, Access::Gained, _, _, who)] = change.as_slice() else {
        panic!("{change:?}")
    };
    assert_eq!(*who, ["any user"], "without duplicates");

    let gone = diff(&old, START);
    assert!(
        gone.iter()
            .any(|(_, access, was, is, _)| *access == Access::Lost
                && was.starts_with("bypass")
                && is == "log_in"),
        "{gone:?}"
    );
}

/// Returns the changes after a change of one application's policies, in one text.
fn touched(around: &str, old: &str, new: &str) -> String {
    let with = |policies: &str| {
        format!(
            "{START}{around}\n[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{policies}]"
        )
    };
    format!("{:?}", diff(&with(old), &with(new)))
}

#[test]
fn every_change_of_access_is_found() {
    let allow = |clauses: &str| format!("{{ name = \"x\", decision = \"allow\", {clauses} }}");
    let eng = "include = [{ okta = { name = \"Eng\", identity_provider_id = \"okta\" } }]";
    let offices = |second: &str| {
        format!(
            "[[groups]]\nid = \"here\"\ninclude = [{{ ip = {{ ip = \"198.51.100.0/24\" }} }}{second}]"
        )
    };
    let here = allow(&format!(
        "{eng}, require = [{{ group = {{ id = \"here\" }} }}]"
    ));
    let with = |around: &str, policy: &str| {
        format!(
            "{START}{around}\n[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{policy}]"
        )
    };
    let second = diff(
        &with(&offices(""), &here),
        &with(&offices(", { ip = { ip = \"233.252.0.0/24\" } }"), &here),
    );
    assert!(
        format!("{second:?}").contains("ip 233.252.0.0"),
        "another office: {second:?}"
    );

    let method = allow(&format!(
        "{eng}, require = [{{ portcullis_method = {{ methods = [\"GET\", \"HEAD\"] }} }}]"
    ));
    assert!(
        touched("", &method, &allow(eng)).contains("not portcullis_method"),
        "other methods"
    );
    let time = "{ portcullis_time = { from = \"00:00\", to = \"23:59\", time_zone = \"UTC\" } }";
    let time = allow(&format!("{eng}, require = [{time}]"));
    assert!(
        touched("", &time, &allow(eng)).contains("not portcullis_time"),
        "the one minute outside"
    );

    let geo = "[geo]\ndatabase = \"not-here.mmdb\"\n";
    let but = "exclude = [{ geo = { country_code = \"RU\" } }]";
    let everyone = "include = [{ everyone = {} }]";
    let opened = touched(
        geo,
        &allow(&format!("{eng}, {but}")),
        &allow(&format!("{everyone}, {but}")),
    );
    assert!(
        opened.contains("any user"),
        "those elsewhere are known to be: {opened}"
    );
    let risk = "{ external_evaluation = { evaluate_url = \"https://r.example/\", keys_url = \"https://r.example/k\" } }";
    let opened = touched(
        "",
        &allow(&format!("{eng}, exclude = [{risk}]")),
        &allow(&format!("{everyone}, exclude = [{risk}]")),
    );
    assert!(opened.contains("any user"), "{opened}");
    // Of an attribute that an assertion lacks nothing is known, so it takes one that has another
    // value.
    let certificate = include_str!("../../../tests/saml/keys/idp.crt");
    let campus = format!(
        "[[identity_providers]]\nid = \"campus\"\nname = \"Campus\"\ntype = \"saml\"\n[identity_providers.config]\n\
         issuer_url = \"http://i.example\"\nsso_target_url = \"https://i.example/sso\"\nattributes = [\"kind\"]\n\
         idp_public_certs = [\"\"\"{certificate}\"\"\"]\n"
    );
    let came = "include = [{ login_method = { id = \"campus\" } }]";
    let kind = |value: &str| {
        format!(
            "{{ saml = {{ attribute_name = \"kind\", attribute_value = \"{value}\", identity_provider_id = \"campus\" }} }}"
        )
    };
    let but = |value: &str| allow(&format!("{came}, exclude = [{}]", kind(value)));
    let closed = touched(
        &campus,
        &but("guest"),
        &allow(&format!("include = [{}]", kind("staff"))),
    );
    assert!(
        closed.contains(
            r#"Lost, "allow by `x`", "deny (no_policy_applied)", ["any user through campus"]"#
        ),
        "{closed}"
    );

    let staff = |but: &str| {
        format!(
            "[[groups]]\nid = \"staff\"\ninclude = [{{ everyone = {{}} }}]\nexclude = [{{ email = {{ email = \"{but}@example.com\" }} }}]"
        )
    };
    let policy = allow(&format!(
        "{eng}, exclude = [{{ group = {{ id = \"staff\" }} }}]"
    ));
    let change = diff(&with(&staff("ceo"), &policy), &with(&staff("cfo"), &policy));
    let change = format!("{change:?}");
    assert!(
        change.contains("email ceo@example.com + okta Eng")
            && change.contains("email cfo@example.com + okta Eng"),
        "{change}"
    );
}

#[test]
fn comparison_of_large_configurations_ends_in_time() {
    // Each names the next one twice: two to the power of thirty ways.
    let mut groups = String::new();
    for i in 0..30 {
        let next = format!("{{ group = {{ id = \"g{}\" }} }}", i + 1);
        groups += &format!("[[groups]]\nid = \"g{i}\"\ninclude = [{next}]\nrequire = [{next}]\n");
    }
    groups += "[[groups]]\nid = \"g30\"\ninclude = [{ email = { email = \"a@example.com\" } }]\n";
    let first = "{ name = \"x\", decision = \"allow\", include = [{ group = { id = \"g0\" } }] }";
    let change = touched(&groups, first, &first.replace("allow", "deny"));
    assert!(change.contains("email a@example.com"), "{change}");
    let policies = |decision: &str| -> String {
        let one = |i| {
            format!(
                "{{ name = \"{i}\", decision = \"{decision}\", include = [{{ email = {{ email = \"{i}@example.com\" }} }}] }},"
            )
        };
        (0..300).map(one).collect()
    };
    assert!(touched("", &policies("allow"), &policies("deny")).contains("email 299@example.com"));
}
