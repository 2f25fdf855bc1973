//! The email address, and the evidence that it is the user's.

use super::claims::merged;
use super::*;

#[test]
fn r11_either_document_can_deny_verification() {
    let verified = |a: Value, b: Value| {
        merged(json!({"email_verified": a}), json!({"email_verified": b})).email_verified
    };
    assert_eq!(verified(json!(null), json!(null)), None);
    assert_eq!(verified(json!(true), json!(null)), Some(true));
    assert_eq!(verified(json!(true), json!(false)), Some(false));
    assert_eq!(verified(json!("false"), json!(true)), Some(false));
    for spelling in ["true", "True", "TRUE"] {
        assert_eq!(
            verified(json!(spelling), json!(null)),
            Some(true),
            "{spelling}"
        );
    }
    assert_eq!(verified(json!(true), json!("False")), Some(false));
    for unreadable in [
        json!(1),
        json!("1"),
        json!("yes"),
        json!(""),
        json!(" true"),
        json!([true]),
        json!({}),
    ] {
        assert_eq!(
            verified(unreadable.clone(), json!(null)),
            Some(false),
            "{unreadable}"
        );
        assert_eq!(
            verified(unreadable.clone(), json!(true)),
            Some(false),
            "{unreadable}"
        );
        assert_eq!(
            verified(json!(true), unreadable.clone()),
            Some(false),
            "{unreadable}"
        );
    }
    let reference = json!({"_claim_names": {"email_verified": "src1"}});
    assert_eq!(
        merged(json!({}), reference.clone()).email_verified,
        Some(false)
    );
    assert_eq!(
        merged(reference, json!({"email_verified": true})).email_verified,
        Some(true)
    );
    let list = merged(
        json!({"email": ["a@b.c", "b@b.c"]}),
        json!({"email": "a@b.c"}),
    );
    assert_eq!(
        (list.email, list.unreadable),
        (
            ClaimedEmail::Unreadable,
            vec!["`email` in the ID token: a list of strings".into()]
        )
    );
}

#[test]
fn email_can_be_the_only_entry_of_a_list() {
    let email = |id_token: Value, userinfo: Value| {
        let profile = merged(id_token, userinfo);
        (profile.email, profile.email_verified)
    };
    let ann = |verified| (ClaimedEmail::Claimed("a@b.c".to_owned()), verified);
    assert_eq!(email(json!({"email": ["a@b.c"]}), json!({})), ann(None));
    let verified = json!({"email": "a@b.c", "email_verified": true});
    assert_eq!(
        email(json!({"email": ["a@b.c"]}), verified.clone()),
        ann(Some(true))
    );
    for odd in [
        json!(["a@b.c", "b@b.c"]),
        json!([]),
        json!([["a@b.c"]]),
        json!({"a": "a@b.c"}),
        json!(7),
    ] {
        assert_eq!(
            email(json!({"email": odd}), verified.clone()).0,
            ClaimedEmail::Unreadable,
            "{odd}"
        );
        assert_eq!(
            email(verified.clone(), json!({"email": odd})),
            ann(Some(true)),
            "{odd}"
        );
    }
}

#[test]
fn empty_email_is_absent_and_vouches_for_no_other() {
    let email = |id_token: Value, userinfo: Value| {
        let profile = merged(id_token, userinfo);
        (profile.email, profile.email_verified)
    };
    let ann = |verified| (ClaimedEmail::Claimed("a@b.c".to_owned()), verified);
    let verified = json!({"email": "a@b.c", "email_verified": true});
    assert_eq!(
        email(json!({"email": ""}), verified.clone()),
        ann(Some(true))
    );
    assert_eq!(
        email(json!({"email": "", "email_verified": false}), verified),
        ann(Some(false))
    );
    assert_eq!(
        email(
            json!({"email": "", "email_verified": true}),
            json!({"email": "a@b.c"})
        ),
        ann(None)
    );
    assert_eq!(
        email(json!({"email": ""}), json!({})),
        (ClaimedEmail::Absent, None)
    );
}

#[test]
fn verification_of_another_address_does_not_count() {
    let verified = |id_token: Value, userinfo: Value| merged(id_token, userinfo).email_verified;
    let (ann, bob) = ("ann@corp.example", "bob@corp.example");
    assert_eq!(
        verified(
            json!({"email": ann}),
            json!({"email": ann, "email_verified": true})
        ),
        Some(true)
    );
    assert_eq!(
        verified(json!({"email": ann}), json!({"email_verified": true})),
        Some(true)
    );
    assert_eq!(
        verified(
            json!({"email": ann}),
            json!({"email": bob, "email_verified": true})
        ),
        None
    );
    assert_eq!(
        verified(
            json!({"email": ann}),
            json!({"email": bob, "email_verified": false})
        ),
        Some(false)
    );
    assert_eq!(
        verified(
            json!({"email": ann, "email_verified": true}),
            json!({"email": bob})
        ),
        Some(true)
    );
}
