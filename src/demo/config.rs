use super::users::{APPLICATIONS, Application};
use super::{Credentials, Ports, loopback};

/// Returns the demo's configuration file. Its `[insecure]` section allows the demo to run without
/// TLS and without a store.
pub(super) fn text(ports: Ports, credentials: &Credentials) -> String {
    let Credentials {
        client_id,
        client_secret,
        api_token,
    } = credentials;
    let applications: String = APPLICATIONS
        .iter()
        .map(|application| describe(application, ports))
        .collect();
    format!(
        r#"[team]
name = "Portcullis demo"
domain = "{team}"

[insecure]
plain_http = true
inline_secrets = true
insecure_identity_providers = true
memory_store = true

[store]
memory = true

[server]
lame_duck = "0s"

[[listen]]
address = "{listen}"

[[identity_providers]]
id = "demo"
name = "Demo provider"
type = "okta"

[identity_providers.config]
client_id = "{client_id}"
client_secret = "{client_secret}"
okta_account = "{issuer}"
api_token = "{api_token}"
{applications}"#,
        team = ports.team().trim_start_matches("http://"),
        listen = loopback(ports.proxy),
        issuer = ports.issuer(),
        client_secret = client_secret.expose(),
        api_token = api_token.expose(),
    )
}

fn describe(application: &Application, ports: Ports) -> String {
    let Application {
        label,
        name,
        who,
        decision,
        include,
    } = application;
    let refusal = match application.requires_login() {
        true => format!("custom_deny_message = \"This demo application is only for {who}.\"\n"),
        false => String::new(),
    };
    format!(
        r#"
[[applications]]
name = "{name}"
domain = "{label}.localhost"
origin = "http://{origin}"
{refusal}
[[applications.policies]]
name = "{who}"
decision = "{decision}"
include = [{include}]
"#,
        origin = loopback(ports.origin),
    )
}
