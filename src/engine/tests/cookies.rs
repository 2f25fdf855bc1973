//! Cookies that another host of the domain may have set: many of them, and two logins at once.

use super::*;

/// A `GET` of the wiki with these values of `CF_Authorization`, in one line.
fn with_cookies(values: &[String]) -> Raw<'static> {
    let pairs: Vec<_> = values
        .iter()
        .map(|value| format!("CF_Authorization={value}"))
        .collect();
    let mut request = get("wiki", &[]);
    request
        .headers
        .insert("cookie", pairs.join("; ").parse().unwrap());
    request
}

/// Returns distinct tokens that differ from valid ones in the signature only.
fn forgeries(number: usize) -> Vec<String> {
    let token = MINT.token(WORLD.person("alice"), "wiki", "");
    let (message, _) = token.rsplit_once('.').unwrap();
    (0..number)
        .map(|i| format!("{message}.{i:04}{}", "A".repeat(342 - 4)))
        .collect()
}

#[test]
fn forged_tokens_do_not_displace_the_valid_one() {
    let good = MINT.token(WORLD.person("bob"), "wiki", "");
    for forged in [1, 4, 5, 30, 100] {
        for first in [true, false] {
            let mut values = forgeries(forged);
            values.insert(if first { 0 } else { forged }, good.clone());
            let node = node();
            for _ in 0..2 {
                assert_eq!(
                    with_cookies(&values).ask(&node, NOW),
                    "forward wiki as bob@example.com by `staff`",
                    "{forged} forged, the valid one first: {first}"
                );
            }
        }
    }
}

#[test]
fn more_forged_tokens_than_are_checked_are_a_conflict() {
    let good = MINT.token(WORLD.person("bob"), "wiki", "");
    let values: Vec<_> = forgeries(200).into_iter().chain([good.clone()]).collect();
    assert_eq!(
        with_cookies(&values).ask(&node(), NOW),
        "log in redirect session_conflict"
    );
    let behind: Vec<_> = [good].into_iter().chain(forgeries(200)).collect();
    assert_eq!(
        with_cookies(&behind).ask(&node(), NOW),
        "log in redirect session_conflict",
        "a second login may be behind"
    );
}

#[test]
fn junk_cookies_cost_no_signature_check() {
    let good = MINT.token(WORLD.person("bob"), "wiki", "");
    let other = |flaw: &str| MINT.token(WORLD.person("alice"), "wiki", flaw);
    let kinds = [
        other("issuer"),
        other("org"),
        other("expired"),
        other("none"),
        MINT.token(WORLD.person("alice"), "app", ""),
    ];
    let junk = (0..400).map(|i| {
        if i % 2 == 0 {
            format!("{i}")
        } else {
            format!("{}{i}", kinds[i % kinds.len()])
        }
    });
    let values: Vec<_> = junk.chain([good]).collect();
    assert_eq!(
        with_cookies(&values).ask(&node(), NOW),
        "forward wiki as bob@example.com by `staff`"
    );
}

#[test]
fn longer_session_of_a_login_is_used_in_any_order() {
    let (old, new) = (
        MINT.token(WORLD.person("alice"), "wiki", "ending"),
        MINT.token(WORLD.person("alice"), "wiki", ""),
    );
    for values in [[old.clone(), new.clone()], [new.clone(), old]] {
        let Ok(Decision::Forward(permit)) = with_cookies(&values).decide(&node(), NOW) else {
            panic!("refused")
        };
        assert_eq!(permit.assertion().unwrap().as_bytes(), new.as_bytes());
    }
}

#[test]
fn two_unknown_records_are_both_fetched() {
    let node = node();
    let (alice, bob) = (WORLD.person("alice"), WORLD.person("bob"));
    node.cache().forget_identity(&alice.nonce());
    node.cache().forget_identity(&bob.nonce());
    let request = with_cookies(&[MINT.token(alice, "wiki", ""), MINT.token(bob, "wiki", "")]);
    for person in [alice, bob] {
        let Ok(Decision::Resolve(Need::Identity { nonce, .. })) = request.decide(&node, NOW) else {
            panic!("decided")
        };
        assert_eq!(nonce, person.nonce());
        record(node.cache(), person);
    }
    assert_eq!(request.ask(&node, NOW), "log in redirect session_conflict");
}

#[test]
fn unknown_key_is_fetched_before_another_login_counts() {
    let node = node();
    node.cache()
        .set_keys(node.issuer(), MINT.keys("may fetch", NOW).unwrap());
    let stranger = MINT.token(WORLD.person("alice"), "wiki", "stranger");
    let request = with_cookies(&[MINT.token(WORLD.person("bob"), "wiki", ""), stranger]);
    assert_eq!(request.ask(&node, NOW), "resolve keys");
    node.cache().set_keys(node.issuer(), good_keys());
    assert_eq!(
        request.ask(&node, NOW),
        "forward wiki as bob@example.com by `staff`"
    );
}
