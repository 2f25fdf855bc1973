//! The order of policies, and groups within groups.

use super::*;

#[test]
fn early_policies_come_first_and_shadows_never_decide() {
    let everyone = json!({"everyone": {}});
    let office = json!({"ip": {"ip": "203.0.113.0/24"}});
    let named = |name: &str, decision: &str, rule: &Value| json!({"name": name, "decision": decision, "include": [rule]});
    let (allow, deny) = (
        named("a", "allow", &everyone),
        named("d", "deny", &everyone),
    );
    let (bypass, auth) = (
        named("b", "bypass", &office),
        named("s", "non_identity", &office),
    );
    let ask = |policies: Value| Case::new(json!([]), json!([]), policies).answer(&alice());
    assert_eq!(
        ask(json!([allow, deny])),
        (PolicyDecision::Allow, Some(0), false, None)
    );
    assert_eq!(
        ask(json!([deny, allow, bypass])),
        (PolicyDecision::Bypass, Some(2), false, None)
    );
    assert_eq!(
        ask(json!([auth, bypass])),
        (PolicyDecision::ServiceAuth, Some(0), false, None)
    );
    let shadow = |mut policy: Value| {
        policy["shadow"] = json!(true);
        policy
    };
    let would = |place, outcome| Some((place, outcome));
    assert_eq!(
        ask(json!([shadow(deny.clone()), allow])),
        (
            PolicyDecision::Allow,
            Some(1),
            false,
            would(0, PolicyDecision::Deny)
        )
    );
    assert_eq!(
        ask(json!([shadow(allow.clone())])),
        (
            PolicyDecision::Deny,
            None,
            false,
            would(0, PolicyDecision::Allow)
        )
    );
    assert_eq!(
        ask(json!([allow, shadow(bypass)])),
        (
            PolicyDecision::Allow,
            Some(0),
            false,
            would(1, PolicyDecision::Bypass)
        )
    );
    assert_eq!(
        ask(json!([allow, shadow(deny)])),
        (PolicyDecision::Allow, Some(0), false, None),
        "too late to matter"
    );
}

#[test]
fn policy_without_include_never_applies() {
    let case = Case::new(
        json!([]),
        json!([]),
        json!([{"name": "p", "decision": "allow", "include": []}]),
    );
    assert_eq!(
        case.answer(&alice()),
        (PolicyDecision::Deny, None, false, None)
    );
}

#[test]
fn deeply_nested_groups_compile_and_loops_are_rejected() {
    let group = |id: &str, inner: &str| json!({"id": id, "name": id, "include": [{"group": {"id": inner}}]});
    let check = |groups: Value| {
        PolicySet::check(&serde_json::from_value::<Vec<AccessGroup>>(groups).unwrap())
    };
    assert_eq!(
        check(json!([group("a", "b"), group("b", "c"), group("c", "b")])),
        Err(UnknownName::Cycle(vec!["b".into(), "c".into(), "b".into()]))
    );
    assert_eq!(
        check(json!([group("a", "a")])),
        Err(UnknownName::Cycle(vec!["a".into(), "a".into()]))
    );
    assert_eq!(
        check(json!([group("a", "x")])),
        Err(UnknownName::Group("x".into()))
    );
    // The same group twice is no cycle.
    let leaf = json!({"id": "c", "name": "c", "include": [{"everyone": {}}]});
    assert_eq!(
        check(json!([group("a", "c"), group("b", "c"), leaf])),
        Ok(())
    );
    let policy =
        json!([{"name": "p", "decision": "allow", "include": [{"group": {"id": "nope"}}]}]);
    let policy: Vec<Policy> = serde_json::from_value(policy).unwrap();
    assert!(PolicySet::compile(SharedRules::default(), [policy.as_slice()]).is_err());

    // Each of ten thousand names the next one twice. Recursion would run out of stack, or of time.
    let twice = |n: usize| json!({"id": n.to_string(), "name": "g", "include": [{"group": {"id": (n + 1).to_string()}}], "require": [{"group": {"id": (n + 1).to_string()}}]});
    let mut groups: Vec<Value> = (0..10_000).map(twice).collect();
    groups.push(json!({"id": "10000", "name": "g", "include": [{"ip": {"ip": "203.0.113.7"}}]}));
    let policy = json!([{"name": "p", "decision": "allow", "include": [{"group": {"id": "0"}}]}]);
    let case = Case::new(json!([]), json!(groups), policy);
    assert_eq!(case.ask(&alice()).0, PolicyDecision::Allow);
    assert_eq!(
        case.ask(&Asked {
            ip: "203.0.113.8".parse().ok(),
            ..alice()
        })
        .0,
        PolicyDecision::Deny
    );
}
