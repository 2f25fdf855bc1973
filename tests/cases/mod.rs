//! The case table and the world it plays in, for everything that answers requests: the engine
//! itself, and the proxy.
//!
//! Included by the engine's unit tests and by the integration tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis::cookie::SameSite;
use portcullis::engine::{
    ApplicationSettings, CookieAttributes, Cors, IdentityState, IssuerKeys, Origins, Team,
};
use portcullis::model::{
    Aud, ClientId, Email, Group, Groups, Host, Identity, IdentityNonce, IdpId, IdpRef,
    SecretDigest, ServiceToken, UnixTime, UserId,
};
use portcullis::policy::{AccessGroup, Policy, PolicyDecision};
use portcullis::route::{Domain, PathCase};
use portcullis::token::{KeySet, SigningKey};
use serde::Deserialize;
use serde_json::{Value, json};

/// The team domain of the table.
pub(crate) const TEAM_DOMAIN: &str = "access.example.com";

/// All of `decisions.toml`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    /// The client's IP address, unless a case sets its own.
    pub(crate) client: IpAddr,
    pub(crate) groups: Vec<AccessGroup>,
    pub(crate) applications: Vec<App>,
    pub(crate) people: Vec<Person>,
    pub(crate) service_tokens: Vec<Token>,
    pub(crate) cases: BTreeMap<String, Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) domain: String,
    #[serde(default)]
    pub(crate) cors: bool,
    #[serde(default)]
    pub(crate) options_preflight_bypass: bool,
    #[serde(default)]
    pub(crate) allowed_idps: Vec<IdpId>,
    pub(crate) policies: Vec<Policy>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) email: String,
    #[serde(default = "okta")]
    pub(crate) idp: String,
    /// Unknown if omitted.
    pub(crate) groups: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) record: Record,
}

/// A service token.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) secret: String,
    /// Seconds from now on.
    pub(crate) expires: Option<u64>,
    #[serde(default)]
    pub(crate) disabled: bool,
}

impl Token {
    /// As the configuration would describe it.
    pub(crate) fn settings(&self, now: UnixTime) -> ServiceToken {
        ServiceToken {
            id: self.id.as_str().into(),
            name: self.id.as_str().into(),
            client_id: ClientId::parse(&self.client_id).unwrap(),
            secrets: vec![
                SecretDigest::sha256(b"the next one"),
                SecretDigest::sha256(self.secret.as_bytes()),
            ],
            expires_at: self.expires.map(|seconds| UnixTime(now.0 + seconds)),
            enabled: !self.disabled,
        }
    }

    fn show(&self, flaw: &str, headers: &mut HeaderMap) {
        let mut add = |name: &'static str, value: &str| {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        };
        let (id, secret) = (self.client_id.as_str(), self.secret.as_str());
        let (ids, secrets): (&[&str], &[&str]) = match flaw {
            "" => (&[id], &[secret]),
            "next" => (&[id], &["the next one"]),
            "wrong" => (&[id], &["a guess"]),
            "stranger" => (&["ffffffffffffffffffffffffffffffff.access"], &[secret]),
            "id alone" => (&[id], &[]),
            "secret alone" => (&[], &[secret]),
            "two ids" => (&[id, id], &[secret]),
            "two secrets" => (&[id], &[secret, "a guess"]),
            "empty" => (&[id], &[""]),
            "joined" => (&[id], &[&format!("a guess, {secret}")]),
            "capitals" => (&[&id.to_uppercase()], &[secret]),
            _ => panic!("`{flaw}` is no flaw"),
        };
        ids.iter().for_each(|id| add("cf-access-client-id", id));
        secrets
            .iter()
            .for_each(|secret| add("cf-access-client-secret", secret));
    }
}

/// The state of a user's identity record on a node.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Record {
    #[default]
    Known,
    Missing,
    Unavailable,
    Unseen,
    /// The tokens have no nonce.
    None,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Method, host, target.
    pub(crate) send: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The credentials; see `decisions.toml`.
    #[serde(default)]
    pub(crate) with: Vec<String>,
    pub(crate) from: Option<IpAddr>,
    /// The state of the node.
    #[serde(default)]
    pub(crate) node: String,
    pub(crate) expect: String,
    /// The answer if a need cannot be met.
    pub(crate) unlearned: Option<String>,
}

/// Reads the table.
pub(crate) fn world() -> World {
    toml::from_str(include_str!("decisions.toml")).unwrap()
}

impl App {
    /// As the configuration would describe it.
    pub(crate) fn settings(&self, origins: Origins) -> ApplicationSettings {
        let cors = Cors {
            allowed_origins: ["https://a.example".to_owned()].into(),
            ..Cors::default()
        };
        ApplicationSettings {
            id: self.name.clone(),
            aud: aud(&self.name),
            name: self.name.clone(),
            domain: Domain::parse(&self.domain).unwrap(),
            session_duration: LIFETIME,
            allowed_idps: self.allowed_idps.clone(),
            auto_redirect_to_identity: false,
            cookie: CookieAttributes {
                same_site: SameSite::Lax,
                http_only: true,
                path: false,
            },
            cors: self.cors.then_some(cors),
            path_case: PathCase::Insensitive,
            options_preflight_bypass: self.options_preflight_bypass,
            pass_cookies: false,
            sent_headers: Arc::default(),
            custom_deny_message: None,
            policies: self.policies.clone(),
            origins,
        }
    }
}

impl Case {
    /// Method, host, path and query.
    pub(crate) fn target(&self) -> (&str, &str, &str, Option<&str>) {
        let mut words = self.send.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (method, host, target) = (word(), word(), word());
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        (method, host, path, query)
    }
}

impl World {
    pub(crate) fn person(&self, name: &str) -> &Person {
        self.people
            .iter()
            .find(|person| person.name == name)
            .unwrap_or_else(|| panic!("no user is called `{name}`"))
    }

    /// The headers of a case, credentials included.
    pub(crate) fn headers(&self, case: &Case, mint: &Mint) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &case.headers {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let mut cookies = vec!["theme=dark".to_owned()];
        for credential in &case.with {
            let (place, what) = credential.split_once(' ').unwrap();
            if place == "service" {
                let (id, flaw) = what.split_once(' ').unwrap_or((what, ""));
                self.service_tokens
                    .iter()
                    .find(|token| token.id == id)
                    .unwrap()
                    .show(flaw, &mut headers);
                continue;
            }
            let value = match what.strip_prefix("raw") {
                Some(raw) => raw.trim_start().to_owned(),
                None => {
                    let words: Vec<_> = what.split(' ').collect();
                    let flaw = words.get(2).copied().unwrap_or_default();
                    mint.token(self.person(words[0]), words[1], flaw)
                }
            };
            let cookie = format!("CF_Authorization={value}");
            match place {
                "cookie" => cookies.push(cookie),
                "line" => drop(headers.append("cookie", HeaderValue::from_str(&cookie).unwrap())),
                "header" => {
                    headers.append("cf-access-token", HeaderValue::from_str(&value).unwrap());
                }
                "bearer" => {
                    let value = HeaderValue::from_str(&format!("bearer {value}")).unwrap();
                    headers.append("authorization", value);
                }
                "assertion" => drop(headers.append(
                    "cf-access-jwt-assertion",
                    HeaderValue::from_str(&value).unwrap(),
                )),
                _ => panic!("`{credential}` names no place"),
            }
        }
        headers.append(
            "cookie",
            HeaderValue::from_str(&cookies.join("; ")).unwrap(),
        );
        headers
    }
}

/// The tokens that name service clients to origins: audience, client id and token.
pub(crate) type Assertions = Vec<(Aud, String, HeaderValue)>;

impl World {
    /// Returns the tokens of all service clients for all origins.
    pub(crate) fn assertions(&self, mint: &Mint) -> Assertions {
        let for_programs = |app: &&App| {
            app.policies
                .iter()
                .any(|p| p.decision == PolicyDecision::ServiceAuth)
        };
        let told = |app: &App, token: &Token| {
            let claims = json!({"aud": [aud(&app.name)], "type": "app", "common_name": token.client_id, "sub": ""});
            let signed = mint.key.sign(&claims).unwrap();
            (
                aud(&app.name),
                token.client_id.clone(),
                HeaderValue::from_str(&signed).unwrap(),
            )
        };
        let apps = self.applications.iter().filter(for_programs);
        apps.flat_map(|app| {
            self.service_tokens
                .iter()
                .map(move |token| told(app, token))
        })
        .collect()
    }
}

impl Person {
    pub(crate) fn nonce(&self) -> IdentityNonce {
        IdentityNonce::parse(&format!("{:0<16}", self.name)).unwrap()
    }

    pub(crate) fn user(&self) -> UserId {
        UserId(format!("user-{}", self.name).into())
    }

    /// Returns the state of the record on a node. A missing one is fetched again from `retry_from`
    /// on.
    pub(crate) fn state(&self, retry_from: UnixTime) -> Option<IdentityState> {
        match self.record {
            Record::Known => Some(IdentityState::Known(Arc::new(self.identity()))),
            Record::Missing => Some(IdentityState::Missing),
            Record::Unavailable => Some(IdentityState::Unavailable { retry_from }),
            Record::Unseen | Record::None => None,
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        let named = |name: &String| Group {
            id: format!("id of {name}"),
            name: name.clone(),
        };
        Identity {
            user: self.user(),
            subject: format!("00u{}", self.name),
            email: Email::parse(&self.email).unwrap(),
            name: None,
            idp: IdpRef {
                id: IdpId(self.idp.as_str().into()),
                kind: "okta".into(),
            },
            groups: self.groups.as_ref().map_or(Groups::Unknown, |names| {
                Groups::Known(names.iter().map(named).collect())
            }),
            groups_seen: None,
            amr: None,
            evaluations: BTreeMap::new(),
            linked_logins: Vec::new(),
            session_ends: None,
            claims: serde_json::Map::new(),
            headers: Vec::new(),
            at: UnixTime(0),
            ip: None,
            revision: REVISION,
        }
    }
}

/// The audience tag of an application of the table.
pub(crate) fn aud(application: &str) -> Aud {
    Aud::derive(&[TEAM_DOMAIN, application])
}

/// The team of that domain.
pub(crate) fn team(domain: &str) -> Team {
    let domain = Host::parse(domain).unwrap();
    Team {
        name: "Example".into(),
        domain,
        port: None,
        plain_http: false,
        leeway: LEEWAY,
        support: None,
    }
}

/// Public keys under the names that are given.
pub(crate) fn key_set(keys: &[(&str, &SigningKey)]) -> KeySet {
    let jwk = |(kid, key): &(&str, &SigningKey)| {
        let mut jwk = key.to_jwk();
        jwk["kid"] = json!(kid);
        jwk
    };
    KeySet::from_jwks(
        json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()})
            .to_string()
            .as_bytes(),
    )
    .unwrap()
}

/// Makes the tokens of the table.
pub(crate) struct Mint {
    pub(crate) now: UnixTime,
    pub(crate) issuer: String,
    /// The team's key.
    pub(crate) key: SigningKey,
    /// A key that the team never had.
    pub(crate) stranger: SigningKey,
}

impl Mint {
    /// Returns the team's keys on a node in a state of the table; `None` if it never fetched any.
    /// Unknown keys are fetched from `retry_from` on.
    pub(crate) fn keys(&self, state: &str, retry_from: UnixTime) -> Option<IssuerKeys> {
        let now = self.now;
        let good_until = now.after(2 * LIFETIME);
        let (kid, key, other) = (self.key.kid(), &self.key, &self.stranger);
        let good = IssuerKeys {
            keys: Some(key_set(&[(kid, key)])),
            good_until,
            retry_from,
        };
        let with = |keys: &[(&str, &SigningKey)]| Some(key_set(keys));
        Some(match state {
            ""
            | "session revoked"
            | "user revoked"
            | "user formerly revoked"
            | "heidi revoked"
            | "application revoked"
            | "revocations stale" => good,
            "may fetch" => IssuerKeys {
                retry_from: now,
                ..good
            },
            "keys stale" => IssuerKeys {
                good_until: now,
                ..good
            },
            "keys failing" => IssuerKeys { keys: None, ..good },
            "keys changed" => IssuerKeys {
                keys: with(&[("other", other)]),
                ..good
            },
            "keys changed, names kept" => IssuerKeys {
                keys: with(&[(kid, other)]),
                ..good
            },
            "key added" => IssuerKeys {
                keys: with(&[("other", other), (kid, key)]),
                ..good
            },
            "keys unseen" => return None,
            _ => panic!("no node is in the state `{state}`"),
        })
    }

    pub(crate) fn claims(&self, person: &Person, application: &str) -> Value {
        let mut claims = json!({
            "iss": self.issuer, "aud": [aud(application)], "type": "app", "exp": self.now.0 + LIFETIME.as_secs(),
            "iat": self.now.0 - 60, "nbf": self.now.0 - 60, "sub": person.user(), "email": person.email,
            "identity_nonce": person.nonce().as_str(),
        });
        if person.record == Record::None {
            claims.as_object_mut().unwrap().remove("identity_nonce");
        }
        claims
    }

    /// A token, with that one thing wrong with it.
    pub(crate) fn token(&self, person: &Person, application: &str, flaw: &str) -> String {
        let mut claims = self.claims(person, application);
        let header = |kid: &str| json!({"alg": "RS256", "kid": kid, "typ": "JWT"});
        let (mut header, mut key) = (header(self.key.kid()), &self.key);
        match flaw {
            "" | "forged" | "long" | "cut" | "quoted" => {}
            "expired" => claims["exp"] = json!(self.now.0),
            "ending" => claims["exp"] = json!(self.now.0 + 1),
            "early" => claims["nbf"] = json!(self.now.0 + LEEWAY + 1),
            "fresh" => claims["iat"] = json!(self.now.0),
            "org" => claims["type"] = json!("org"),
            "issuer" => claims["iss"] = json!("https://other.example.com"),
            "nobody" => claims["email"] = Value::Null,
            "impersonation" => claims["email"] = json!("bob@example.com"),
            "both" => claims["aud"] = json!([aud(application), aud("wiki")]),
            "none" => header["alg"] = json!("none"),
            "hs256" => header["alg"] = json!("HS256"),
            "crit" => header["crit"] = json!(["exp"]),
            "nameless" => drop(header.as_object_mut().unwrap().remove("kid")),
            "stranger" => (header["kid"], key) = (json!(self.stranger.kid()), &self.stranger),
            "impostor" => key = &self.stranger,
            _ => panic!("`{flaw}` is no flaw"),
        }
        if flaw == "long" {
            claims["custom"] = json!({"padding": "x".repeat(portcullis::token::MAX_TOKEN_BYTES)});
        }
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match flaw {
            "none" => String::new(),
            "hs256" => {
                let secret = self.key.to_jwk().to_string();
                let key =
                    aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
                URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()))
            }
            "forged" => sign(key, &format!("{message}.")),
            _ => sign(key, &message),
        };
        let token = format!("{message}.{signature}");
        match flaw {
            "cut" => token.strip_suffix(|_: char| true).unwrap().to_owned(),
            "quoted" => format!("\"{token}\""),
            _ => token,
        }
    }
}

/// The lifetime of the table's tokens.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3_600);

/// The tolerated difference between clocks, in seconds.
pub(crate) const LEEWAY: u64 = 60;

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs any bytes with RS256, also those that `SigningKey::sign` would never produce.
fn sign(key: &SigningKey, message: &str) -> String {
    let pkcs8 = URL_SAFE_NO_PAD
        .decode(key.to_pkcs8().unwrap().expose())
        .unwrap();
    let pair = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    let rng = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(
        &aws_lc_rs::signature::RSA_PKCS1_SHA256,
        &rng,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    URL_SAFE_NO_PAD.encode(signature)
}

fn okta() -> String {
    "okta".to_owned()
}

/// The revision of every login of the table: revocations with a later one cover it.
pub(crate) const REVISION: u64 = 1;
