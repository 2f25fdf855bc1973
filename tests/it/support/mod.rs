//! Parts of the tests: a proxy as a process, an origin and a provider inside the test, and clients.

pub mod browser;
pub mod certs;
pub mod connect_proxy;
pub mod evaluator;
pub mod idp;
#[path = "../../keys/mod.rs"]
pub mod keys;
pub mod okta;
pub mod origin;
pub mod portcullis;
pub mod raw;
pub mod recorder;
pub mod saml;
pub mod simplesamlphp;
pub mod switcher;
pub mod wire;

use std::time::{Duration, Instant};

pub use self::browser::Browser;
pub use self::idp::{Answer, Idp, Person};
pub use self::okta::Okta;
pub use self::origin::Origin;
pub use self::portcullis::{Config, Portcullis};
pub use self::raw::Response;
pub use self::simplesamlphp::SimpleSamlPhp;

/// The key of a service that a test plays: an identity provider, or one that evaluates logins.
pub const SERVICE_KEY: &str = include_str!("../../keys/service.key");

/// The applications of most tests, all at one origin: `wiki` for Engineering, `pay` for Finance,
/// `open` without a login, and `app` for any member with `/public` open and `/admin` for admins.
pub const APPLICATIONS: &str = r#"
[[applications]]
name = "Wiki"
domain = "wiki.$TLD"
origin = "$ORIGIN"
session_duration = "8h"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "engineers"
decision = "allow"
include = [{ okta = { name = "Engineering", identity_provider_id = "okta" } }]

[[applications]]
name = "Pay"
domain = "pay.$TLD"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "finance"
decision = "allow"
include = [{ okta = { name = "Finance", identity_provider_id = "okta" } }]

[[applications]]
name = "Open"
domain = "open.$TLD"
origin = "$ORIGIN"
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{ everyone = {} }]

[[applications]]
name = "App"
domain = "app.$TLD"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "members"
decision = "allow"
include = [{ everyone = {} }]

[[applications]]
name = "App, public part"
domain = "app.$TLD/public"
origin = "$ORIGIN"
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{ everyone = {} }]

[[applications]]
name = "App, admin part"
domain = "app.$TLD/admin"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "admins"
decision = "allow"
include = [{ okta = { name = "admins", identity_provider_id = "okta" } }]
"#;

/// A provider, an origin and a proxy between them.
pub struct World {
    /// The proxy. Named first: it is the first to be stopped.
    pub proxy: Portcullis,
    /// The provider.
    pub idp: Idp,
    /// The origin.
    pub origin: Origin,
}

impl World {
    /// With [`APPLICATIONS`], without TLS.
    pub async fn start() -> Self {
        Self::with(APPLICATIONS, |_| ()).await
    }

    /// With these applications, and a configuration that differs.
    pub async fn with(applications: &str, change: impl FnOnce(&mut Config)) -> Self {
        let idp = Idp::start().await;
        let changed = |config: &mut Config| {
            config.rest = applications.to_owned();
            change(config);
        };
        let (proxy, origin) = start(&idp.issuer, changed).await;
        Self { proxy, idp, origin }
    }

    /// A fresh browser.
    pub fn browser(&self) -> Browser {
        Browser::new(&self.proxy)
    }

    /// A browser in which `person` has logged in at `url` and is there.
    pub async fn signed_in(&self, person: Person, url: &str) -> Browser {
        self.idp.script(|script| script.person = person);
        let mut browser = self.browser();
        browser.assert_opens(url).await;
        self.origin.forget();
        browser
    }

    /// Starts a login at `url`, and returns the URL at which the provider sends the browser back.
    pub async fn callback(&self, browser: &mut Browser, url: &str) -> String {
        let provider = browser.open_until(url, &self.idp.issuer).await;
        let answer = browser.request("GET", provider.as_str(), &[], b"").await;
        answer.location().to_owned()
    }

    /// One request of raw bytes, on a connection of its own.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> Option<Response> {
        raw::exchange(self.proxy.address, bytes).await
    }
}

/// Returns an application for users of one provider that `include` matches. Further keys of its
/// policy can follow.
pub fn application(host: &str, idp: &str, include: &str) -> String {
    format!(
        r#"
[[applications]]
name = "{host}"
domain = "{host}.$TLD"
origin = "$ORIGIN"
allowed_idps = ["{idp}"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "some"
decision = "allow"
include = [{include}]
"#
    )
}

/// A proxy with [`APPLICATIONS`] for the provider with that issuer, and its origin.
pub async fn start(issuer: &str, change: impl FnOnce(&mut Config)) -> (Portcullis, Origin) {
    let origin = Origin::start().await;
    let mut config = Config::new(issuer, APPLICATIONS);
    change(&mut config);
    (
        Portcullis::start(at(config, &origin.url("http"))).await,
        origin,
    )
}

/// Puts the origin and the names into a configuration.
pub fn at(mut config: Config, origin: &str) -> Config {
    let tld = if config.tls { "test" } else { "localhost" };
    config.rest = config.rest.replace("$ORIGIN", origin).replace("$TLD", tld);
    config
}

/// An application without a login at `name.$TLD`, with further keys. `origins` is a value in TOML.
pub fn open_application(name: &str, origins: &str, keys: &str) -> String {
    let host = name.to_lowercase();
    format!(
        r#"
[[applications]]
name = "{name}"
domain = "{host}.$TLD"
origin = {origins}
{keys}
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{{ everyone = {{}} }}]
"#
    )
}

/// An open application with these keys for each origin, at the paths `/0`, `/1`, … of `open.$TLD`.
pub fn open_paths(origins: &[String], keys: &str) -> String {
    let application = |(index, origin)| {
        format!(
            r#"
[[applications]]
name = "Open {index}"
domain = "open.$TLD/{index}"
origin = "{origin}"
{keys}
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{{ everyone = {{}} }}]
"#
        )
    };
    origins.iter().enumerate().map(application).collect()
}

/// Starts a proxy in front of an unusual origin.
pub async fn before(rest: &str, change: impl FnOnce(&mut Config)) -> (Portcullis, Idp) {
    let idp = Idp::start().await;
    let mut config = Config::new(&idp.issuer, rest);
    change(&mut config);
    (Portcullis::start(at(config, "")).await, idp)
}

/// The answer must be a refusal: the way to the login, or 400, 401, 403, 404, 405, 421 or 431;
/// never an allow and never a 5xx. `None` (the connection was closed) is one too.
#[track_caller]
pub fn assert_refused(answer: Option<&Response>, after: &str) {
    let Some(answer) = answer else { return };
    match answer.status {
        302 => assert!(
            leads_to_login(answer),
            "after {after} sent to `{}`",
            answer.location()
        ),
        400 | 401 | 403 | 404 | 405 | 421 | 431 => (),
        other => panic!("after {after}: {other} {}", answer.text()),
    }
    assert_eq!(
        answer.headers.one("x-from"),
        None,
        "after {after} the origin answered"
    );
}

/// Returns `true` if an answer redirects to the login page of the team domain.
pub fn leads_to_login(answer: &Response) -> bool {
    let Some(location) = answer.headers.one("location") else {
        return false;
    };
    [
        "http://access.localhost/cdn-cgi/access/login/",
        "https://access.test/cdn-cgi/access/login/",
    ]
    .iter()
    .any(|login| location.starts_with(login))
}

/// Returns a token of the team as it would be if it had been signed `seconds` earlier.
pub fn older(token: &str, seconds: i64) -> String {
    let (_, mut claims) = open_token(token);
    for claim in ["iat", "nbf", "exp"] {
        if let Some(time) = claims[claim].as_i64() {
            claims[claim] = (time - seconds).into();
        }
    }
    keys::signing_key(keys::TEAM).sign(&claims).unwrap()
}

/// Waits until a condition is met, and fails with this message if that takes a minute.
pub async fn eventually(failure: &str, mut is_met: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_met().await {
        assert!(Instant::now() < deadline, "{failure}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Takes a token apart: header and claims, unverified.
pub fn open_token(token: &str) -> (serde_json::Value, serde_json::Value) {
    use base64::Engine;
    let mut parts = token.split('.').map(|part| {
        base64::prelude::BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .unwrap()
    });
    let mut part = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (part(), part())
}
