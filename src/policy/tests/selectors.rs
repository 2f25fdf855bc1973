//! Every selector in every clause.

use super::*;

/// Returns rules that are true for Alice, each with a request for which it is false, and another
/// for which it is unknown.
pub(super) fn selectors() -> Vec<(Value, Asked, Option<Asked>)> {
    let okta = |name: &str| json!({"okta": {"name": name, "identity_provider_id": "okta"}});
    let other = |asked: fn(&mut Asked)| {
        let mut alice = alice();
        asked(&mut alice);
        alice
    };
    let bob = || {
        let email = Email::parse("bob@sub.example.com").unwrap();
        Asked {
            person: Some((
                email.clone(),
                Some(Identity {
                    email,
                    ..identity()
                }),
            )),
            ..alice()
        }
    };
    vec![
        (
            json!({"email": {"email": "ALICE@Example.com"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"email_domain": {"domain": "EXAMPLE.com"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"email_list": {"id": "people"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"ip": {"ip": "203.0.113.0/24"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(other(|a| a.ip = None)),
        ),
        (
            json!({"ip_list": {"id": "offices"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(other(|a| a.ip = None)),
        ),
        (
            json!({"geo": {"country_code": "DE"}}),
            other(|a| a.country = Country::parse("FR")),
            Some(other(|a| a.country = None)),
        ),
        (
            okta("Eng"),
            who(|i| i.groups = groups(&["eng", "Engineering"])),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
        (
            okta("Eng"),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"oidc": {"claim_name": "dept", "claim_value": "eng", "identity_provider_id": "okta"}}),
            who(|i| i.claims["dept"] = json!(null)),
            Some(who(|i| drop(i.claims.remove("dept")))),
        ),
        (
            json!({"saml": {"attribute_name": "level", "attribute_value": "3", "identity_provider_id": "okta"}}),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"login_method": {"id": "okta"}}),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"auth_method": {"auth_method": "mfa"}}),
            who(|i| i.amr = Some(vec!["MFA".into()])),
            Some(who(|i| i.amr = None)),
        ),
        (
            json!({"external_evaluation": {"evaluate_url": "https://a.example/", "keys_url": "https://a.example/keys"}}),
            who(|i| i.evaluations.values_mut().for_each(|holds| *holds = false)),
            Some(who(|i| i.evaluations.clear())),
        ),
        (
            json!({"external_evaluation": {"evaluate_url": "https://a.example/", "keys_url": "https://a.example/keys"}}),
            who(|i| i.evaluations.values_mut().for_each(|holds| *holds = false)),
            // An answer under other keys is that of another service.
            Some(who(|i| {
                i.evaluations =
                    BTreeMap::from([("https://a.example/ https://a.example/old".to_owned(), true)])
            })),
        ),
        (
            json!({"certificate": {}}),
            other(|a| a.certificate = Fact::Absent),
            Some(other(|a| a.certificate = Fact::Unknown)),
        ),
        (
            json!({"common_name": {"common_name": "host.example.com"}}),
            other(|a| a.certificate = Fact::Present("HOST.example.com")),
            Some(other(|a| a.certificate = Fact::Unknown)),
        ),
        (
            json!({"service_token": {"token_id": "t1"}}),
            other(|a| a.service_token = Fact::Present("t2")),
            Some(other(|a| a.service_token = Fact::Unknown)),
        ),
        (
            json!({"any_valid_service_token": {}}),
            other(|a| a.service_token = Fact::Absent),
            Some(other(|a| a.service_token = Fact::Unknown)),
        ),
        (
            json!({"linked_app_token": {"app_uid": "app1"}}),
            other(|a| a.linked_app = Fact::Absent),
            Some(other(|a| a.linked_app = Fact::Unknown)),
        ),
        (
            json!({"portcullis_method": {"methods": ["GET", "HEAD"]}}),
            other(|a| a.method = Method::POST),
            None,
        ),
        (
            json!({"portcullis_time": {"from": "08:00", "to": "18:00", "days": ["mon"], "time_zone": "Europe/London"}}),
            other(|a| a.now = UnixTime(a.now.0 + 86_400)),
            None,
        ),
        (
            json!({"group": {"id": "eng"}}),
            who(|i| i.groups = groups(&[])),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
        (
            json!({"group": {"id": "office"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
    ]
}

/// Each selector × (known true, known false, unknown) × (include, require, exclude) × (allow,
/// deny).
#[test]
fn every_selector_follows_its_truth_table() {
    let everyone = json!({"everyone": {}});
    for (rule, no, unknown) in selectors() {
        for (clause, if_true, if_false) in [
            ("include", true, false),
            ("require", true, false),
            ("exclude", false, true),
        ] {
            for decision in ["allow", "deny"] {
                let mut subject = json!({"name": "p", "decision": decision, "include": [everyone]});
                subject[clause] = json!([rule]);
                let fallback = if decision == "allow" { "deny" } else { "allow" };
                let last = json!({"name": "q", "decision": fallback, "include": [everyone]});
                let case = Case::new(lists(), access_groups(), json!([subject, last]));
                let decided = |asked: &Asked| case.answer(asked).1 == Some(0);
                assert_eq!(
                    decided(&alice()),
                    if_true,
                    "true: {clause} {decision} {rule}"
                );
                assert_eq!(decided(&no), if_false, "false: {clause} {decision} {rule}");
                if let Some(unknown) = &unknown {
                    // An allow does not apply, a deny does: both times the outcome is a refusal.
                    assert_eq!(
                        case.answer(unknown).0,
                        PolicyDecision::Deny,
                        "unknown: {clause} {decision} {rule}"
                    );
                }
            }
        }
    }
}

#[test]
fn rule_about_a_foreign_service_is_unknown() {
    for rule in [
        json!({"azureAD": {"id": "g", "identity_provider_id": "okta"}}),
        json!({"github-organization": {"name": "o", "identity_provider_id": "okta"}}),
        json!({"gsuite": {"email": "g@example.com", "identity_provider_id": "okta"}}),
        json!({"auth_context": {"id": "a", "ac_id": "c1", "identity_provider_id": "okta"}}),
        json!({"device_posture": {"integration_uid": "d"}}),
        json!({"user_risk_score": {"user_risk_score": ["low"]}}),
        json!({"cloudflare_account_member": {"account_id": "c"}}),
    ] {
        for clause in ["include", "require", "exclude"] {
            let mut policy =
                json!({"name": "p", "decision": "allow", "include": [{"everyone": {}}]});
            policy[clause] = json!([rule]);
            let answer = Case::new(json!([]), json!([]), json!([policy])).answer(&alice());
            assert_eq!(
                answer,
                (PolicyDecision::Deny, None, true, None),
                "{clause} {rule}"
            );
        }
    }
}
