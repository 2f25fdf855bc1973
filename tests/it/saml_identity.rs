//! What a SAML response makes known of a person, and for how long, with the binary.

use serde_json::{Value, json};

use crate::support::saml::{ACS, SSO, Statement, certificate, form, request, response};
use crate::support::{Browser, World};

const WIKI: &str = "http://wiki.localhost/page";

/// The `wiki` for all but contractors.
async fn world() -> World {
    let rest = format!(
        r#"
[[identity_providers]]
id = "saml"
name = "Example SAML"
type = "saml"
[identity_providers.config]
issuer_url = "http://www.okta.com/exk1"
sso_target_url = "{SSO}"
idp_public_certs = ["{}"]
attributes = ["groups", "department"]

[[applications]]
name = "Wiki"
domain = "wiki.$TLD"
origin = "$ORIGIN"
allowed_idps = ["saml"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "staff"
decision = "allow"
include = [{{ everyone = {{}} }}]
exclude = [{{ saml = {{ attribute_name = "groups", attribute_value = "contractors", identity_provider_id = "saml" }} }}]
"#,
        certificate()
    );
    World::with(&rest, |_| ()).await
}

/// Logs in anew: where that ends.
async fn log_in(browser: &mut Browser, statement: &Statement) -> u16 {
    let (to, relay_state) = request(&browser.open_until(WIKI, SSO).await);
    browser.post_from_elsewhere(ACS, &form(&response(&to, statement), &relay_state)).await.response.status
}

async fn told(browser: &mut Browser) -> Value {
    browser.fetch("GET", "http://access.localhost/cdn-cgi/access/get-identity", &[], b"").await.json()
}

#[tokio::test]
async fn an_attribute_that_is_not_there_keeps_nobody_from_being_excluded() {
    let world = world().await;
    for (groups, status) in [
        (Some(vec!["Engineering"]), 200),
        (Some(vec!["Engineering", "contractors"]), 403),
        // None of them, by the provider's word.
        (Some(vec![]), 200),
        // As Entra sends it of somebody in more than 150 groups.
        (None, 403),
        (Some(vec!["\n  contractors\n"]), 403),
    ] {
        let mut browser = world.browser();
        let statement = Statement { groups: groups.clone(), ..Statement::alice() };
        world.origin.forget();
        assert_eq!(log_in(&mut browser, &statement).await, status, "{groups:?}: {:#?}", browser.trail);
        if status != 200 {
            world.origin.assert_untouched("somebody who may be a contractor");
        }
        let told = told(&mut browser).await;
        match groups {
            None => assert_eq!(told["oidc_fields"], json!({"department": "Research & Development, Köln"})),
            Some(groups) if groups == ["Engineering"] => assert_eq!(told["oidc_fields"]["groups"], "Engineering"),
            Some(_) => {}
        }
    }
}
