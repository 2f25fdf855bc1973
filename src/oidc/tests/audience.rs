//! Audiences of an ID token (OpenID Connect Core 3.1.3.7, steps 3 to 5).

use super::*;
use IdTokenError::{Audience, AuthorizedParty, UntrustedAudience};

fn check_trusting(
    aud: &Value,
    azp: Option<&str>,
    trusted: Option<&[&str]>,
) -> Result<(), IdTokenError> {
    let mut claims = claims();
    claims["aud"] = aud.clone();
    if let Some(azp) = azp {
        claims["azp"] = json!(azp);
    }
    let trusted: Option<Vec<String>> =
        trusted.map(|all| all.iter().map(ToString::to_string).collect());
    let nonce = Secret::new("n-0");
    let expected = Expected {
        issuer: ISSUER,
        client_id: "client",
        trusted_audiences: trusted.as_deref(),
        nonce: &nonce,
        access_token: ACCESS_TOKEN,
        now: NOW,
        max_age: None,
        leeway: Duration::from_secs(60),
    };
    verify(&signed(&claims), &one_key(), &expected).map(drop)
}

#[test]
fn core_3_1_3_7_4_several_audiences_need_azp() {
    let several = json!(["client", "account"]);
    assert_eq!(check_trusting(&several, Some("client"), None), Ok(()));
    assert_eq!(
        check_trusting(
            &json!(["account", "project", "client"]),
            Some("client"),
            None
        ),
        Ok(())
    );
    assert_eq!(
        check_trusting(&several, None, None),
        Err(AuthorizedParty { absent: true })
    );
    assert_eq!(
        check_trusting(&several, Some("account"), None),
        Err(AuthorizedParty { absent: false })
    );
    assert_eq!(
        check_trusting(&several, Some(""), None),
        Err(AuthorizedParty { absent: true })
    );
    assert_eq!(
        check_trusting(&several, Some("Client"), None),
        Err(AuthorizedParty { absent: false })
    );
    // `azp` does not replace an audience.
    for aud in [
        json!(["account", "other"]),
        json!("account"),
        json!([]),
        json!(["client", 7]),
    ] {
        assert_eq!(
            check_trusting(&aud, Some("client"), None),
            Err(Audience),
            "{aud}"
        );
    }
}

#[test]
fn trusted_audiences_restrict_other_audiences() {
    let several = json!(["client", "account"]);
    assert_eq!(
        check_trusting(&several, Some("client"), Some(&["account", "x"])),
        Ok(())
    );
    assert_eq!(
        check_trusting(&several, Some("client"), Some(&["x"])),
        Err(UntrustedAudience)
    );
    assert_eq!(
        check_trusting(&several, Some("client"), Some(&[])),
        Err(UntrustedAudience)
    );
    assert_eq!(check_trusting(&json!("client"), None, Some(&[])), Ok(()));
    assert_eq!(
        check_trusting(&json!(["client", "client"]), None, Some(&[])),
        Ok(())
    );
    assert_eq!(
        check_trusting(
            &json!(["client", "account", "y"]),
            Some("client"),
            Some(&["account"])
        ),
        Err(UntrustedAudience)
    );
    // A trusted audience replaces neither `azp` nor this client.
    assert_eq!(
        check_trusting(&several, None, Some(&["account"])),
        Err(AuthorizedParty { absent: true })
    );
    assert_eq!(
        check_trusting(&json!("account"), Some("account"), Some(&["account"])),
        Err(Audience)
    );
}

#[test]
fn audience_hints_name_the_setting() {
    for error in [
        Audience,
        AuthorizedParty { absent: true },
        AuthorizedParty { absent: false },
    ] {
        assert!(error.advice().unwrap().contains("`client_id`"), "{error}");
    }
    for error in [AuthorizedParty { absent: true }, UntrustedAudience] {
        assert!(
            error.advice().unwrap().contains("`trusted_audiences`"),
            "{error}"
        );
    }
}
