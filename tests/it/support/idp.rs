//! A provider inside the test, which signs every user in at once. The test can change the answer of
//! each endpoint and each token. Unchanged answers are correct: PKCE, client authentication and
//! one-time codes are checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

use super::okta::{CLIENT_ID, CLIENT_SECRET};
use super::wire::{self, Framing, Headers};
use super::{SERVICE_KEY, keys};

/// A change to a JSON object on its way out.
pub type Tweak = Box<dyn Fn(&mut Map<String, Value>) + Send>;

/// The answer of an endpoint.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// The correct answer.
    #[default]
    Right,
    /// A status and a body in JSON's clothes.
    Text(u16, String),
    /// A page, as from something that stands in front of the provider.
    Html,
    /// No answer; the connection stays open.
    Hang,
    /// The end of the connection.
    Close,
}

/// The behaviour of the provider in the next logins.
pub struct Script {
    /// The user that signs in.
    pub person: Person,
    /// The discovery document.
    pub discovery: Answer,
    /// The JWKS.
    pub keys: Answer,
    /// The token endpoint.
    pub token: Answer,
    /// The userinfo endpoint.
    pub userinfo: Answer,
    /// Changes the JOSE header of the ID token.
    pub header: Tweak,
    /// Changes the claims of the ID token.
    pub claims: Tweak,
    /// Changes the answer of userinfo.
    pub profile: Tweak,
    /// Changes the parameters of the redirect back.
    pub callback: Tweak,
    /// Signs with a key that is not in the JWKS, under the published `kid`.
    pub stranger_signs: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            person: Person::alice(),
            discovery: Answer::Right,
            keys: Answer::Right,
            token: Answer::Right,
            userinfo: Answer::Right,
            header: Box::new(|_| ()),
            claims: Box::new(|_| ()),
            profile: Box::new(|_| ()),
            callback: Box::new(|_| ()),
            stranger_signs: false,
        }
    }
}

/// A user of the provider.
#[derive(Debug, Clone)]
pub struct Person {
    /// The subject.
    pub sub: String,
    /// The mail address.
    pub email: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl Person {
    fn new(sub: &str, email: &str, groups: &[&str]) -> Self {
        Self {
            sub: sub.into(),
            email: email.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
        }
    }

    /// In `Engineering` and `admins`.
    pub fn alice() -> Self {
        Self::new(
            "00u1alice",
            "alice@example.com",
            &["Everyone", "Engineering", "admins"],
        )
    }

    /// In `Finance`.
    pub fn bob() -> Self {
        Self::new("00u2bob", "bob@example.com", &["Everyone", "Finance"])
    }
}

/// A running provider. Ends when dropped.
pub struct Idp {
    /// The issuer, `http://127.0.0.1:<port>` unless it has another name.
    pub issuer: String,
    /// The address that it listens on.
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

struct Shared {
    issuer: String,
    script: Script,
    /// The parameters of authorization requests, by codes that are not yet redeemed.
    codes: HashMap<String, HashMap<String, String>>,
    /// The users of access tokens.
    tokens: HashMap<String, Person>,
    counts: HashMap<String, usize>,
    given: Vec<String>,
    next: usize,
}

impl Idp {
    /// Starts a provider with nothing wrong.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::serve(listener, None)
    }

    /// Starts a provider that calls itself by another issuer than its address.
    pub async fn start_named(issuer: &str) -> Self {
        Self::serve(
            TcpListener::bind(("127.0.0.1", 0)).await.unwrap(),
            Some(issuer),
        )
    }

    /// Starts a provider at this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::serve(TcpListener::bind(address).await.unwrap(), None)
    }

    fn serve(listener: TcpListener, issuer: Option<&str>) -> Self {
        let address = listener.local_addr().unwrap();
        let issuer = issuer.map_or_else(|| format!("http://{address}"), str::to_owned);
        let shared = Arc::new(Mutex::new(Shared {
            issuer: issuer.clone(),
            script: Script::default(),
            codes: HashMap::new(),
            tokens: HashMap::new(),
            counts: HashMap::new(),
            given: Vec::new(),
            next: 0,
        }));
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            }
        });
        Self {
            issuer,
            address,
            shared,
            task,
        }
    }

    /// Changes the script.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.lock().unwrap().script);
    }

    /// Returns the number of requests for `path`.
    pub fn count(&self, path: &str) -> usize {
        self.shared
            .lock()
            .unwrap()
            .counts
            .get(path)
            .copied()
            .unwrap_or(0)
    }

    /// Every code and token that this provider has given out.
    pub fn given(&self) -> Vec<String> {
        self.shared.lock().unwrap().given.clone()
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Reply {
    Json(u16, String),
    Redirect(String),
    Html,
    Hang,
    Close,
}

async fn connection(stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = wire::read_head(&mut stream).await {
        let framing = wire::framing(&head.headers, Framing::Length(0));
        let Ok(body) = wire::read_body(&mut stream, framing).await else {
            return;
        };
        let target = head.first.split(' ').nth(1).unwrap_or_default();
        let reply = shared.lock().unwrap().answer(target, &head.headers, &body);
        let message = match reply {
            Reply::Hang => return std::future::pending().await,
            Reply::Close => return,
            Reply::Json(status, body) => message(status, "content-type: application/json", &body),
            Reply::Html => message(
                200,
                "content-type: text/html",
                "<!DOCTYPE html><title>Blocked</title>",
            ),
            Reply::Redirect(to) => message(302, &format!("location: {to}"), ""),
        };
        if stream.write_all(message.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn message(status: u16, header: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Of The Provider\r\n{header}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Shared {
    fn answer(&mut self, target: &str, headers: &Headers, body: &[u8]) -> Reply {
        let url = Url::parse(&self.issuer).unwrap().join(target).unwrap();
        *self.counts.entry(url.path().to_owned()).or_default() += 1;
        match url.path() {
            "/.well-known/openid-configuration" => or(&self.script.discovery, || {
                Reply::Json(200, self.discovery())
            }),
            "/oauth2/v1/keys" => or(&self.script.keys, || Reply::Json(200, jwks())),
            "/oauth2/v1/authorize" => self.authorize(url.query_pairs().into_owned().collect()),
            "/oauth2/v1/token" => {
                let reply = self.redeem(
                    headers,
                    &url::form_urlencoded::parse(body).into_owned().collect(),
                );
                or(&self.script.token, || reply)
            }
            "/oauth2/v1/userinfo" => or(&self.script.userinfo, || self.userinfo(headers)),
            _ => Reply::Json(404, "{}".into()),
        }
    }

    fn discovery(&self) -> String {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/oauth2/v1/authorize"),
            "token_endpoint": format!("{issuer}/oauth2/v1/token"),
            "userinfo_endpoint": format!("{issuer}/oauth2/v1/userinfo"),
            "jwks_uri": format!("{issuer}/oauth2/v1/keys"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": true,
        })
        .to_string()
    }

    fn authorize(&mut self, request: HashMap<String, String>) -> Reply {
        assert_eq!(request["client_id"], CLIENT_ID);
        assert_eq!(request["response_type"], "code");
        assert_eq!(request["code_challenge_method"], "S256", "PKCE always");
        let code = self.name("code");
        let mut back = Map::new();
        back.insert("code".into(), code.clone().into());
        back.insert("state".into(), request["state"].clone().into());
        back.insert("iss".into(), self.issuer.clone().into());
        (self.script.callback)(&mut back);
        let mut to = Url::parse(&request["redirect_uri"]).unwrap();
        to.query_pairs_mut().extend_pairs(
            back.iter()
                .map(|(name, value)| (name, value.as_str().unwrap())),
        );
        self.codes.insert(code, request);
        Reply::Redirect(to.into())
    }

    fn redeem(&mut self, headers: &Headers, form: &HashMap<String, String>) -> Reply {
        let basic = format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"))
        );
        if headers.one("authorization") != Some(&basic) {
            return Reply::Json(401, json!({ "error": "invalid_client" }).to_string());
        }
        let verifier = form
            .get("code_verifier")
            .map(String::as_str)
            .unwrap_or_default();
        let challenge =
            BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let request = form.get("code").and_then(|code| self.codes.remove(code));
        let Some(request) = request.filter(|r| r["code_challenge"] == challenge) else {
            return Reply::Json(400, json!({ "error": "invalid_grant" }).to_string());
        };
        let access_token = self.name("access");
        self.tokens
            .insert(access_token.clone(), self.script.person.clone());
        let id_token = self.id_token(&request["nonce"]);
        self.given.push(id_token.clone());
        let answer = json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": access_token, "id_token": id_token });
        Reply::Json(200, answer.to_string())
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = now();
        let Value::Object(mut header) = json!({ "alg": "RS256", "kid": "provider-key" }) else {
            unreachable!()
        };
        let claims = json!({
            "iss": self.issuer, "aud": CLIENT_ID, "sub": self.script.person.sub, "nonce": nonce,
            "iat": now, "exp": now + 3600, "auth_time": now, "ver": 1, "amr": ["pwd"],
            "email": self.script.person.email, "name": "A Person", "preferred_username": self.script.person.email,
        });
        let Value::Object(mut claims) = claims else {
            unreachable!()
        };
        (self.script.header)(&mut header);
        (self.script.claims)(&mut claims);
        let key = if self.script.stranger_signs {
            &STRANGER
        } else {
            &KEY
        };
        jws(&header, &claims, key)
    }

    fn userinfo(&self, headers: &Headers) -> Reply {
        let token = headers
            .one("authorization")
            .and_then(|v| v.strip_prefix("Bearer "));
        let Some(person) = token.and_then(|token| self.tokens.get(token)) else {
            return Reply::Json(401, "{}".into());
        };
        let Value::Object(mut profile) = json!({
            "sub": person.sub, "email": person.email, "email_verified": true, "name": "A Person", "groups": person.groups,
        }) else {
            unreachable!()
        };
        (self.script.profile)(&mut profile);
        Reply::Json(200, Value::Object(profile).to_string())
    }

    fn name(&mut self, kind: &str) -> String {
        self.next += 1;
        let name = format!("{kind}-of-the-provider-{:06}", self.next);
        self.given.push(name.clone());
        name
    }
}

fn or(answer: &Answer, right: impl FnOnce() -> Reply) -> Reply {
    match answer {
        Answer::Right => right(),
        Answer::Text(status, body) => Reply::Json(*status, body.clone()),
        Answer::Html => Reply::Html,
        Answer::Hang => Reply::Hang,
        Answer::Close => Reply::Close,
    }
}

static KEY: LazyLock<KeyPair> = LazyLock::new(|| key_pair(SERVICE_KEY));
static STRANGER: LazyLock<KeyPair> = LazyLock::new(|| key_pair(keys::STRANGER));

fn key_pair(pem: &str) -> KeyPair {
    KeyPair::from_pkcs8(&keys::der(pem)).unwrap()
}

/// Returns a token that is signed with an unpublished key.
pub fn forged(header: &Value, claims: &Value) -> String {
    jws(
        header.as_object().unwrap(),
        claims.as_object().unwrap(),
        &STRANGER,
    )
}

/// RFC 7515, section 5.1, with whatever the header claims.
fn jws(header: &Map<String, Value>, claims: &Map<String, Value>, key: &KeyPair) -> String {
    let part = |object: &Map<String, Value>| {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(object).unwrap())
    };
    let signed = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn jwks() -> String {
    // RFC 8017, A.1.1: SEQUENCE { n, e }. For 2048 bits the modulus stands at a fixed place.
    let der = KEY.public_key().as_ref();
    let n = BASE64_URL_SAFE_NO_PAD.encode(&der[9..265]);
    json!({ "keys": [{ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "provider-key", "n": n, "e": "AQAB" }] })
        .to_string()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
