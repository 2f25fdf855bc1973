//! The comparison of values.

use super::*;

#[test]
fn claims_that_cannot_be_compared_are_unknown() {
    let role = json!({"oidc": {"claim_name": "role", "claim_value": "contractor", "identity_provider_id": "okta"}});
    let answer = |claim: &Value, excluded: bool| {
        let everyone = json!({"everyone": {}});
        let (include, exclude) = if excluded {
            (&everyone, vec![&role])
        } else {
            (&role, vec![])
        };
        let policy = json!({"id": "p", "name": "p", "decision": "allow", "include": [include], "exclude": exclude});
        let case = Case::new(json!([]), json!([]), json!([policy]));
        let (outcome, _, unknown, _) = case.answer(&who(|identity| {
            drop(identity.claims.insert("role".into(), claim.clone()))
        }));
        (outcome == PolicyDecision::Allow, unknown)
    };
    for has in [
        json!("contractor"),
        json!(["contractor"]),
        json!(["contractor", 7, true]),
        json!(["contractor", null, {}]),
        json!({"contractor": {"1": "org"}}),
        json!({"contractor": {"1": "org"}, "x": null}),
    ] {
        assert_eq!(
            (answer(&has, false), answer(&has, true)),
            ((true, false), (false, false)),
            "{has}"
        );
    }
    for has_not in [
        json!(null),
        json!("Contractor"),
        json!("x,contractor"),
        json!(""),
        json!(7),
        json!(true),
        json!([]),
        json!(["x", 7]),
        json!({}),
        json!({"x": {"1": "org"}}),
    ] {
        assert_eq!(
            (answer(&has_not, false), answer(&has_not, true)),
            ((false, false), (true, false)),
            "{has_not}"
        );
    }
    for may in [
        json!({"contractor": 1}),
        json!({"contractor": {}}),
        json!({"name": "contractor"}),
        json!({"x": {"1": "org"}, "contractor": null}),
        json!(["x", {"name": "contractor"}]),
        json!(["x", null]),
        json!([["contractor"]]),
    ] {
        assert_eq!(
            (answer(&may, false), answer(&may, true)),
            ((false, true), (false, true)),
            "{may}"
        );
    }
}

#[test]
fn names_and_values_are_compared_byte_for_byte() {
    for name in [
        "On Call, EU",
        "Ops/Prod",
        "a\"b\\c",
        "R&D <x>",
        "Größe",
        "日本語グループ",
        " ",
    ] {
        let rule = json!({"okta": {"name": name, "identity_provider_id": "okta"}});
        let case = Case::new(
            json!([]),
            json!([]),
            json!([{"name": "p", "decision": "allow", "include": [rule]}]),
        );
        assert_eq!(
            case.answer(&who(|i| i.groups = groups(&[name]))).0,
            PolicyDecision::Allow,
            "{name}"
        );
        assert_eq!(
            case.answer(&who(|i| i.groups = groups(&[&format!("{name} ")])))
                .0,
            PolicyDecision::Deny,
            "{name}"
        );
    }
    for (claim, value, holds) in [
        ("dept", "ops", true),
        ("dept", "Ops", false),
        ("dept", "eng,ops", false),
        ("level", "3", true),
        ("level", "3.0", false),
        ("admin", "true", true),
        ("none", "null", false),
        ("none", "", false),
    ] {
        let rule = json!({"oidc": {"claim_name": claim, "claim_value": value, "identity_provider_id": "okta"}});
        let case = Case::new(
            json!([]),
            json!([]),
            json!([{"name": "p", "decision": "allow", "include": [rule]}]),
        );
        assert_eq!(
            case.answer(&alice()).0 == PolicyDecision::Allow,
            holds,
            "{claim} {value}"
        );
    }
}

#[test]
fn mapped_address_equals_the_ipv4_address() {
    let rule = json!({"ip": {"ip": "::ffff:203.0.113.0/120"}});
    let case = Case::new(
        json!([]),
        json!([]),
        json!([{"name": "p", "decision": "allow", "include": [rule]}]),
    );
    assert_eq!(case.answer(&alice()).0, PolicyDecision::Allow);
}

#[test]
fn time_window_crosses_midnight_and_follows_summer_time() {
    let holds = |from: &str, to: &str, days: Value, now: &str| {
        let window = json!({"from": from, "to": to, "days": days, "time_zone": "Europe/Berlin"});
        let window: TimeWindow = serde_json::from_value(window).unwrap();
        let now: jiff::Timestamp = now.parse().unwrap();
        window
            .holds(UnixTime(now.as_second().try_into().unwrap()))
            .unwrap()
    };
    // Friday the 24th of July 2026: 22:30 in Berlin is 20:30 in Greenwich.
    assert!(holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-24T20:30:00Z"
    ));
    assert!(!holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-24T19:30:00Z"
    ));
    assert!(
        holds("22:00", "06:00", json!(["fri"]), "2026-07-25T03:59:59Z"),
        "until Saturday morning"
    );
    assert!(!holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-25T04:00:00Z"
    ));
    assert!(
        !holds("22:00", "06:00", json!(["sat"]), "2026-07-25T03:00:00Z"),
        "which is still Friday's"
    );
    assert!(
        holds("08:00", "18:00", json!([]), "2026-01-15T07:00:00Z"),
        "one hour in winter"
    );
    assert!(!holds("08:00", "18:00", json!([]), "2026-01-15T06:59:59Z"));
    for (field, bad) in [
        ("from", json!("8:00")),
        ("from", json!("24:00")),
        ("to", json!("08:00")),
        ("days", json!(["Monday"])),
        ("time_zone", json!("Mars/Olympus")),
        ("time_zone", json!("CET ")),
    ] {
        let mut window = json!({"from": "08:00", "to": "18:00", "time_zone": "Europe/Berlin"});
        window[field] = bad;
        assert!(
            serde_json::from_value::<TimeWindow>(window.clone()).is_err(),
            "{window}"
        );
    }
}
