//! Objects in the JSON of Cloudflare Access.

use serde_json::Value as Json;

use super::*;
use crate::catalog::{Kind, Object, UnknownPolicy};
use crate::model::SecretDigest;

/// The objects of the example, and those that it has in comments or not at all.
fn everything() -> String {
    let certificate = include_str!("../../../tests/saml/keys/idp.crt");
    format!(
        r#"{EXAMPLE}
[[identity_providers]]
id = "keycloak"
name = "Keycloak"
type = "oidc"
[identity_providers.config]
client_id = "portcullis"
client_secret = "env:OKTA_CLIENT_SECRET"
issuer = "https://login.example.com/realms/acme"
groups_claim_name = "realm_access.roles"
absent_groups = "empty"
email_verified = "required"
claims = ["department"]
prompt = "login"
max_age = "8h"
auth_url = "https://login.example.com/auth"
token_url = "https://login.example.com/token"
certs_url = "https://login.example.com/certs"
userinfo_url = "https://login.example.com/userinfo"
[[identity_providers]]
id = "saml"
name = "SAML"
type = "saml"
[identity_providers.config]
issuer_url = "http://www.okta.com/exk1example"
sso_target_url = "https://dev-1.okta.com/app/example/exk1example/sso/saml"
idp_public_certs = ['''{certificate}''']
sign_request = true
attributes = ["department"]
header_attributes = [{{ attribute_name = "department", header_name = "X-Department" }}]
[[lists]]
id = "contractors"
name = "Contractors"
emails = ["ann@example.org", "ben@example.org"]
[[lists]]
id = "offices"
ips = ["203.0.113.0/24", "2001:db8::1"]
[[policies]]
id = "everyday"
name = "Everyday"
decision = "allow"
include = [{{ group = {{ id = "staff" }} }}, {{ email_list = {{ id = "contractors" }} }}]
require = [{{ ip_list = {{ id = "offices" }} }}]
session_duration = "1h"
[[service_tokens]]
id = "ci"
name = "Continuous integration"
client_id = "0123456789abcdef0123456789abcdef.access"
client_secret_sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
expires_at = "2030-01-01T00:00:00Z"
[[certificates]]
name = "Devices"
ca = "devices-ca.pem"
associated_hostnames = ["api.example.com", "*.dev.example.com"]
[[applications]]
id = "api"
domain = "api.example.com/v1"
origin = ["https://127.0.0.1:8443", "h2://127.0.0.1:8444"]
case_sensitive_paths = true
allowed_idps = ["okta"]
auto_redirect_to_identity = true
same_site_cookie_attribute = "lax"
http_only_cookie_attribute = false
path_cookie_attribute = true
cors_headers = {{ allowed_origins = ["https://app.example.com"], allow_all_methods = true, allowed_headers = ["x-a"], allow_credentials = true, max_age = -1 }}
pass_cookies = true
max_body = "10MiB"
custom_deny_message = "Ask the help desk."
origin_settings = {{ ca = "ca.pem", host_header = "api.internal", health_check = {{ path = "/healthz", expect = [200, 204] }}, upgrades = ["example/1"] }}
policies = ["everyday", {{ id = "ci-only", name = "CI", decision = "non_identity", include = [{{ service_token = {{ token_id = "ci" }} }}], shadow = true }}]
"#
    )
}

/// Returns the JSON of an object with its secrets, as a client of the API sends it.
fn with_secrets(object: Object<'_>) -> Json {
    let mut body = serde_json::to_value(object).unwrap();
    match object {
        Object::IdentityProvider(provider) if provider.type_name() != "saml" => {
            body["config"]["client_secret"] = HIDDEN.into();
        }
        Object::ServiceToken(token) => {
            body["client_secret_sha256"] = token.secrets[0].to_hex().into();
        }
        _ => {}
    }
    body
}

#[test]
fn every_object_is_read_back_from_its_json() {
    let mut catalog = read(&everything())
        .unwrap_or_else(|e| panic!("{e}"))
        .config
        .catalog;
    let (node, _) = EXAMPLE.split_once("[[identity_providers]]").unwrap();
    let file = Path::new("conf/portcullis.toml");
    let mut documents = vec![Document::toml(node.to_owned(), file).unwrap()];
    for object in catalog.objects() {
        let (kind, id) = (object.kind(), object.id().to_owned());
        let body = with_secrets(object).to_string();
        documents.push(Document::object(&body, kind, Some(id)).unwrap());
    }
    assert_eq!(documents.len(), 1 + 11);
    let loaded = check(&documents, &Fake::new()).unwrap_or_else(|e| panic!("{e}"));
    // The object itself holds the certificates.
    catalog.certificates[0].file = None;
    assert_eq!(loaded.config.catalog, catalog);
    let wiki = &loaded.provenance[&(Kind::Application, "api".to_owned())];
    assert_eq!(
        (wiki.document.to_string().as_str(), wiki.line),
        ("the application `api`", None)
    );
}

#[test]
fn json_of_an_object_has_access_s_members_and_no_secret() {
    let text = everything().replace(
        "# api_token = \"env:OKTA_API_TOKEN\"",
        "api_token = \"file:secret\"",
    );
    let catalog = read(&text).unwrap().config.catalog;
    let json = |kind, id| serde_json::to_value(catalog.get(kind, id).unwrap()).unwrap();
    assert_eq!(
        json(Kind::IdentityProvider, "okta"),
        json!({
            "id": "okta", "name": "Okta", "type": "okta",
            "config": { "client_id": "0oa1example", "okta_account": "https://dev-1.okta.com" },
        })
    );
    assert_eq!(
        json(Kind::Group, "staff"),
        json!({
            "id": "staff", "name": "staff", "include": [{ "email_domain": { "domain": "example.com" } }],
            "require": [], "exclude": [],
        })
    );
    assert_eq!(
        json(Kind::List, "contractors"),
        json!({
            "id": "contractors", "name": "Contractors", "type": "EMAIL",
            "items": [{ "value": "ann@example.org" }, { "value": "ben@example.org" }],
        })
    );
    assert_eq!(
        json(Kind::ServiceToken, "ci"),
        json!({
            "id": "ci", "name": "Continuous integration", "client_id": "0123456789abcdef0123456789abcdef.access",
            "enabled": true, "expires_at": "2030-01-01T00:00:00Z",
        })
    );
    let wiki = json(Kind::Application, "wiki.example.com");
    assert_eq!(
        (
            &wiki["type"],
            &wiki["domain"],
            &wiki["session_duration"],
            &wiki["http_only_cookie_attribute"]
        ),
        (
            &json!("self_hosted"),
            &json!("wiki.example.com"),
            &json!("24h"),
            &json!(true)
        )
    );
    // For Terraform a default that was not sent is a change.
    for absent in [
        "same_site_cookie_attribute",
        "path_cookie_attribute",
        "cors_headers",
        "options_preflight_bypass",
    ] {
        assert_eq!(wiki.get(absent), None, "{absent}");
    }
    let api = json(Kind::Application, "api");
    assert_eq!(
        api["policies"][0],
        json!({ "id": "everyday", "precedence": 1 })
    );
    assert_eq!(api["policies"][1]["precedence"], json!(2));
    let team = serde_json::to_value(&catalog.team).unwrap();
    assert_eq!(
        team,
        json!({ "name": "access.example.com", "auth_domain": "access.example.com", "session_duration": "24h" })
    );
    let digest = SecretDigest::sha256(b"hello").to_hex();
    for object in catalog.objects() {
        let text = serde_json::to_string(&object).unwrap();
        assert!(!text.contains(HIDDEN) && !text.contains(&digest), "{text}");
    }
}

#[test]
fn uses_of_an_object_are_counted() {
    let catalog = read(&everything()).unwrap().config.catalog;
    let uses = |kind, id| {
        catalog
            .uses(kind, id)
            .map(|object| object.id().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(uses(Kind::Group, "staff"), ["everyday"]);
    assert_eq!(uses(Kind::Policy, "everyday"), ["api"]);
    assert_eq!(uses(Kind::List, "offices"), ["everyday"]);
    assert_eq!(uses(Kind::ServiceToken, "ci"), ["api"]);
    assert_eq!(
        uses(Kind::IdentityProvider, "okta"),
        ["wiki.example.com", "api"]
    );
    assert_eq!(uses(Kind::IdentityProvider, "saml"), Vec::<String>::new());
}

#[test]
fn unknown_shared_policy_is_an_error_and_not_left_out() {
    let mut catalog = read(&everything()).unwrap().config.catalog;
    let api = catalog.applications[1].clone();
    assert_eq!(catalog.policies_of(&api).unwrap().len(), 2);
    catalog.policies.clear();
    assert_eq!(
        catalog.policies_of(&api),
        Err(UnknownPolicy("everyday".to_owned()))
    );
}

#[test]
fn object_of_the_file_has_a_line() {
    let loaded = read("[[groups]]\nid = \"a\"\ninclude = [{ everyone = {} }]\n").unwrap_err();
    assert!(!loaded.0.is_empty());
    let part = "[[groups]]\nid = \"a\"\ninclude = [{ everyone = {} }]\n[[groups]]\nid = \"b\"\ninclude = [{ everyone = {} }]\n";
    let loaded = read(&complete(part)).unwrap();
    let origin = &loaded.provenance[&(Kind::Group, "b".to_owned())];
    assert_eq!(
        origin.document,
        DocumentName::File("conf/portcullis.toml".into())
    );
    assert_eq!(origin.line, Some(4));
}

#[test]
fn members_of_access_are_accepted_in_its_objects_alone() {
    let body = json!({
        "id": "wiki", "uid": "wiki", "type": "self_hosted", "name": "Wiki", "domain": "wiki.example.com",
        "created_at": "2026-01-01T00:00:00Z", "origin": "http://127.0.0.1:8080",
        "policies": [
            { "name": "b", "decision": "allow", "include": [{ "everyone": {} }], "precedence": 2 },
            { "name": "a", "decision": "deny", "include": [{ "everyone": {} }], "precedence": 1 },
        ],
    });
    let file = Document::toml(complete(""), Path::new("conf/portcullis.toml")).unwrap();
    let object = Document::object(&body.to_string(), Kind::Application, None).unwrap();
    let errors = check(&[file, object], &Fake::new())
        .unwrap_err()
        .to_string();
    assert_eq!(
        errors,
        "a new application: /policies/1/precedence: policies are evaluated in the order of this list; sort them by \
         `precedence`, each its own"
    );
    let messages = rendered(
        "[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\nuid = \"a\"\ntype = \"self_hosted\"\npolicies = []\n",
    );
    assert!(
        messages.contains("there is no key `uid` here") && messages.contains("remove this"),
        "{messages}"
    );
}
