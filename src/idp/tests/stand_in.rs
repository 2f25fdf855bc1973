//! A stand-in for Okta on the loopback interface, which can misbehave.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::super::*;
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::oidc::testing::{NOW, TestKey, b64, jwks, rsa};

pub(super) const CLIENT_SECRET: &str = "client:s e+cret";
pub(super) const API_TOKEN: &str = "00api-token";

#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    /// The delay before the reply, longer than every timeout if it should hang.
    pub(super) delay: Duration,
}

pub(super) struct Request {
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) headers: HashMap<String, String>,
    pub(super) form: HashMap<String, String>,
}

/// Everything that a test may change, before or between logins.
pub(super) struct State {
    pub(super) key: TestKey,
    pub(super) header: Value,
    pub(super) jwks: String,
    pub(super) metadata: Value,
    /// Claims that replace those of the ID token; `null` removes one.
    pub(super) id_token: Value,
    pub(super) access_token: String,
    pub(super) userinfo: Value,
    /// The groups in the groups API.
    pub(super) directory: Vec<String>,
    /// Replies that replace the regular one of a path, in order; the last one repeats.
    pub(super) replies: HashMap<&'static str, Vec<Reply>>,
    pub(super) next_link_origin: Option<String>,
    /// The paths of the calls so far.
    pub(super) calls: Vec<String>,
    /// The user's status in the users API.
    pub(super) status: &'static str,
    /// `true` if the secret must be in the form.
    pub(super) takes_post: bool,
    /// The client's key, if it has one instead of a secret.
    pub(super) client_key: Option<TestKey>,
    /// The client assertions so far.
    pub(super) assertions: HashSet<String>,
    /// Pushed requests, by `request_uri`.
    pub(super) pushed: HashMap<String, HashMap<String, String>>,
    /// `scope` of the token response: `None` repeats the request's, and null omits it.
    pub(super) scope: Option<Value>,
    /// Started logins: code, nonce, challenge and scope.
    flows: HashMap<String, (String, String, String)>,
}

pub(super) struct StandIn {
    pub(super) origin: String,
    state: Arc<Mutex<State>>,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self {
            status,
            headers,
            body: body.to_string(),
            delay: Duration::ZERO,
        }
    }

    pub(super) fn html(status: u16) -> Self {
        let headers = vec![("content-type", "text/html".to_owned())];
        Self {
            status,
            headers,
            body: "<html>ThreatInsight</html>".to_owned(),
            delay: Duration::ZERO,
        }
    }

    /// Closes the connection without a response.
    pub(super) fn reset() -> Self {
        Self {
            status: 0,
            ..Self::html(200)
        }
    }

    pub(super) fn hang() -> Self {
        Self {
            delay: Duration::from_secs(30),
            ..Self::html(200)
        }
    }
}

impl StandIn {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!()
        };
        let origin = format!("http://okta.localhost:{}", address.port());
        let at = |path: &str| json!(format!("{origin}{path}"));
        let state = State {
            key: rsa(0),
            header: json!({"alg": "RS256", "kid": "k0"}),
            jwks: jwks(&[rsa(0).jwk(Some("k0"))]),
            metadata: json!({
                "issuer": at(""), "authorization_endpoint": at("/oauth2/v1/authorize"),
                "token_endpoint": at("/oauth2/v1/token"), "userinfo_endpoint": at("/oauth2/v1/userinfo"),
                "jwks_uri": at("/oauth2/v1/keys"), "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }),
            id_token: json!({}),
            access_token: "at-1".to_owned(),
            userinfo: json!({
                "sub": "00u1", "email": "ann@corp.example", "name": "Ann", "groups": ["admins"], "locale": "en-US",
            }),
            directory: Vec::new(),
            replies: HashMap::new(),
            next_link_origin: None,
            calls: Vec::new(),
            status: "ACTIVE",
            takes_post: false,
            client_key: None,
            assertions: HashSet::new(),
            pushed: HashMap::new(),
            scope: None,
            flows: HashMap::new(),
        };
        let stand_in = Self {
            origin,
            state: Arc::new(Mutex::new(state)),
        };
        let state = Arc::clone(&stand_in.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        stand_in
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn reply(&self, path: &'static str, replies: &[Reply]) {
        self.state().replies.insert(path, replies.to_vec());
    }

    pub(super) fn calls(&self, path: &str) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|call| *call == path)
            .count()
    }

    /// Default settings that a test may adjust.
    pub(super) fn settings(&self) -> OktaSettings {
        OktaSettings {
            client: self.client(),
            okta_account: Url::parse(&self.origin).unwrap(),
            authorization_server_id: None,
            api_token: None,
            groups_scope: true,
            refresh: None,
            groups_budget: Duration::from_secs(5),
        }
    }

    /// The settings that all providers have.
    pub(super) fn client(&self) -> ClientSettings {
        ClientSettings {
            id: IdpId("okta-1".into()),
            name: "Okta".into(),
            client_id: "client".into(),
            credentials: Credentials::Secret(Secret::new(CLIENT_SECRET)),
            auth_method: None,
            trusted_audiences: None,
            claims: vec!["department".into()],
            email_claim_name: None,
            email_verified: EmailVerification::Optional,
            prompt: None,
            max_age: None,
            pushed_requests: false,
            provider_logout: false,
            ages: Ages {
                fresh: Duration::from_secs(60),
                stale: Duration::from_secs(600),
                cooldown: Duration::from_millis(300),
                failure: Duration::from_millis(300),
            },
        }
    }

    pub(super) fn provider(&self) -> Provider {
        provider(self.settings())
    }

    pub(super) fn provider_with_token(&self) -> Provider {
        provider(OktaSettings {
            api_token: Some(Secret::new(API_TOKEN)),
            ..self.settings()
        })
    }

    /// Acts as the browser at the authorization endpoint. Returns the query of the callback.
    pub(super) fn authorize(&self, begun: &Started) -> String {
        let mut query: HashMap<_, _> = begun.url.query_pairs().into_owned().collect();
        let mut state = self.state();
        if let Some(name) = query.get("request_uri") {
            assert_eq!(
                (query.len(), query["client_id"].as_str()),
                (2, "client"),
                "nothing else goes by the browser"
            );
            query = state.pushed.remove(name).unwrap();
        }
        let code = format!("code-{}", state.flows.len());
        let flow = ["nonce", "code_challenge", "scope"].map(|name| query[name].clone());
        state.flows.insert(code.clone(), flow.into());
        format!("code={code}&state={}", query["state"])
    }

    /// A login in which the user changes the scopes in the request URL, if it has any.
    pub(super) async fn login_with_scopes(
        &self,
        provider: &Provider,
        scopes: &str,
    ) -> Result<ProviderIdentity, LoginFailure> {
        let mut begun = begin(provider).await?;
        let query: Vec<(String, String)> = begun.url.query_pairs().into_owned().collect();
        let changed = query.into_iter().map(|(name, value)| match name.as_str() {
            "scope" => (name, scopes.to_owned()),
            _ => (name, value),
        });
        let mut url = begun.url.clone();
        url.query_pairs_mut().clear().extend_pairs(changed);
        begun.url = url;
        finish(provider, &begun, &self.authorize(&begun)).await
    }

    pub(super) async fn login(
        &self,
        provider: &Provider,
    ) -> Result<ProviderIdentity, LoginFailure> {
        let begun = begin(provider).await?;
        finish(provider, &begun, &self.authorize(&begun)).await
    }
}

pub(super) fn http() -> HttpClient {
    let timeouts = Timeouts {
        connect: Duration::from_millis(400),
        total: Duration::from_millis(400),
    };
    HttpClient::new(&Roots::default(), timeouts).unwrap()
}

pub(super) fn redirect_uri() -> Url {
    Url::parse("https://team.example/cdn-cgi/access/callback").unwrap()
}

pub(super) fn provider(settings: OktaSettings) -> Provider {
    Provider::okta(settings, http(), redirect_uri())
}

/// The state of a started login in the browser.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) url: Url,
    pub(super) state: Secret,
    pub(super) pending: Pending,
}

pub(super) async fn begin(provider: &Provider) -> Result<Started, LoginFailure> {
    static STATES: AtomicUsize = AtomicUsize::new(0);
    let state = format!("state-{}", STATES.fetch_add(1, Ordering::Relaxed));
    let StartedLogin { url, pending } = provider
        .as_oidc()
        .unwrap()
        .begin(&state, Hints::default(), NOW)
        .await?;
    Ok(Started {
        url,
        state: Secret::new(state),
        pending,
    })
}

pub(super) async fn finish(
    provider: &Provider,
    begun: &Started,
    query: &str,
) -> Result<ProviderIdentity, LoginFailure> {
    let callback = Callback::parse(query)?;
    let context = CallbackContext {
        now: NOW,
        leeway: Duration::from_secs(60),
        client_ip: Some("192.0.2.7".parse().unwrap()),
    };
    provider
        .as_oidc()
        .unwrap()
        .finish(&begun.state, &begun.pending, &callback, context)
        .await
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let reply = answer(&request, &mut state.lock().unwrap());
    tokio::time::sleep(reply.delay).await;
    if reply.status == 0 {
        return;
    }
    let mut head = format!(
        "HTTP/1.1 {} x\r\nconnection: close\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream
        .write_all(format!("{head}\r\n{}", reply.body).as_bytes())
        .await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let headers: HashMap<String, String> = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            if body.len()
                >= headers
                    .get("content-length")
                    .map_or(0, |length| length.parse().unwrap())
            {
                let target = Url::parse("http://x")
                    .unwrap()
                    .join(head.split(' ').nth(1)?)
                    .ok()?;
                return Some(Request {
                    path: target.path().to_owned(),
                    query: target.query_pairs().into_owned().collect(),
                    headers,
                    form: url::form_urlencoded::parse(body.as_bytes())
                        .into_owned()
                        .collect(),
                });
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(length @ 1..) if bytes.len() < 65_536 => bytes.extend_from_slice(&chunk[..length]),
            _ => return None,
        }
    }
}

fn answer(request: &Request, state: &mut State) -> Reply {
    state.calls.push(request.path.clone());
    if let Some(replies) = state.replies.get_mut(request.path.as_str()) {
        return if replies.len() > 1 {
            replies.remove(0)
        } else {
            replies[0].clone()
        };
    }
    match request.path.as_str() {
        "/.well-known/openid-configuration" => Reply::json(200, &state.metadata),
        "/oauth2/v1/keys" => Reply {
            body: state.jwks.clone(),
            ..Reply::json(200, &json!(null))
        },
        "/oauth2/v1/token" => token(request, state),
        "/oauth2/v1/userinfo"
            if request
                .headers
                .get("authorization")
                .is_some_and(|a| a == "Bearer at-1") =>
        {
            Reply::json(200, &state.userinfo)
        }
        "/api/v1/users/00u1/groups"
            if request
                .headers
                .get("authorization")
                .is_some_and(|a| *a == format!("SSWS {API_TOKEN}")) =>
        {
            groups(request, state)
        }
        "/api/v1/users/00u1"
            if request
                .headers
                .get("authorization")
                .is_some_and(|a| *a == format!("SSWS {API_TOKEN}")) =>
        {
            Reply::json(
                200,
                &json!({"id": "00u1", "status": state.status, "profile": {"login": "ann@corp.example"}}),
            )
        }
        "/oauth2/v1/par" => push(request, state),
        path if path.ends_with("/groups") => Reply::json(401, &json!({"errorCode": "E0000011"})),
        _ => Reply::html(404),
    }
}

/// Stores a pushed request and returns its name (RFC 9126).
fn push(request: &Request, state: &mut State) -> Reply {
    if !is_the_client(request, state) {
        return Reply::json(401, &json!({"error": "invalid_client"}));
    }
    let name = format!("urn:ietf:params:oauth:request_uri:{}", state.pushed.len());
    state.pushed.insert(name.clone(), request.form.clone());
    Reply::json(201, &json!({"request_uri": name, "expires_in": 60}))
}

fn is_the_client(request: &Request, state: &mut State) -> bool {
    let form = |name: &str| request.form.get(name).map(String::as_str);
    let authorization = request.headers.get("authorization");
    let Some(key) = &state.client_key else {
        // RFC 6749 2.3.1: both parts are form-encoded before they become a Basic credential.
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode("client:client%3As+e%2Bcret");
        if state.takes_post {
            return authorization.is_none()
                && form("client_id") == Some("client")
                && form("client_secret") == Some(CLIENT_SECRET);
        }
        return authorization == Some(&format!("Basic {basic}"));
    };
    let assertion = form("client_assertion").unwrap_or_default();
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.jwk(None)).unwrap();
    let header = jsonwebtoken::decode_header(assertion).unwrap();
    let mut rules = jsonwebtoken::Validation::new(header.alg);
    rules.set_audience(&[state.metadata["token_endpoint"].as_str().unwrap()]);
    rules.set_issuer(&["client"]);
    rules.validate_exp = false;
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let claims = jsonwebtoken::decode::<Value>(assertion, &key, &rules)
        .unwrap()
        .claims;
    let fresh = claims["jti"]
        .as_str()
        .is_some_and(|jti| state.assertions.insert(jti.to_owned()));
    let brief = claims["iat"] == NOW.0 && claims["exp"] == NOW.0 + 300;
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let shown = (
        form("client_assertion_type"),
        form("client_id"),
        form("client_secret"),
        authorization,
    );
    header.kid.as_deref() == Some("key-1")
        && fresh
        && brief
        && claims["sub"] == "client"
        && shown == (Some(kind), Some("client"), None, None)
}

fn token(request: &Request, state: &mut State) -> Reply {
    let refuse = |error: &str| Reply::json(400, &json!({"error": error}));
    let form = |name: &str| request.form.get(name).cloned().unwrap_or_default();
    if !is_the_client(request, state) {
        return Reply::json(401, &json!({"error": "invalid_client"}));
    }
    // A code is valid once.
    let Some((nonce, challenge, scope)) = state.flows.remove(&form("code")) else {
        return refuse("invalid_grant");
    };
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form("code_verifier").as_bytes());
    let redirect = form("redirect_uri") == "https://team.example/cdn-cgi/access/callback";
    if b64(digest.as_ref()) != challenge || !redirect || form("grant_type") != "authorization_code"
    {
        return refuse("invalid_grant");
    }
    let mut claims = json!({
        "iss": state.metadata["issuer"], "sub": "00u1", "aud": "client", "iat": NOW.0, "exp": NOW.0 + 3600,
        "nonce": nonce, "email": "Ann@Corp.example", "ver": 1, "amr": ["pwd"], "idp": "00o1",
    });
    for (name, value) in state.id_token.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    let id_token = state.key.sign(&state.header, &claims.to_string());
    let scope = state.scope.clone().unwrap_or_else(|| json!(scope));
    let mut tokens = json!({
        "access_token": state.access_token, "token_type": "bearer", "expires_in": 3600, "scope": scope, "id_token": id_token,
    });
    tokens
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    Reply::json(200, &tokens)
}

fn groups(request: &Request, state: &State) -> Reply {
    let number = |name: &str, other| {
        request
            .query
            .get(name)
            .map_or(other, |n| n.parse::<usize>().unwrap())
    };
    let (after, limit) = (number("after", 0), number("limit", 200).min(200));
    let end = (after + limit).min(state.directory.len());
    let page: Vec<_> = state.directory[after..end]
        .iter()
        .map(|name| json!({"id": format!("00g-{name}"), "type": "OKTA_GROUP", "profile": {"name": name, "description": null}}))
        .collect();
    let mut reply = Reply::json(200, &json!(page));
    let own = format!("http://{}", request.headers["host"]);
    reply.headers.push((
        "link",
        format!("<{own}{}?limit={limit}>; rel=\"self\"", request.path),
    ));
    if end < state.directory.len() {
        let origin = state.next_link_origin.as_ref().unwrap_or(&own);
        reply.headers.push((
            "link",
            format!(
                "<{origin}{}?after={end}&limit={limit}>; rel=\"next\"",
                request.path
            ),
        ));
    }
    reply
}
