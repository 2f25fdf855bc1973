//! Another team's keys and identities: an edge node without the login side, or an origin behind
//! Cloudflare Access itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::running::Running;
use crate::cookie;
use crate::engine::IssuerKeys;
use crate::http_client::HttpClient;
use crate::login::{Claim, Granted, Refused, ReturnTo};
use crate::model::{
    Aud, Email, FetchBudget, Group, Groups, Identity, IdpId, IdpRef, Secret, UnixTime, UserId, json,
};
use crate::observe::metrics::{Fetch, metrics};
use crate::token::KeySet;

/// Where another team's keys are, and how long they are trusted.
#[derive(Clone, Debug)]
pub struct RemoteTeam {
    /// The JWKS.
    pub certs_url: Url,
    /// Who may be asked for identities: `https://<team domain>/cdn-cgi/access/get-identity`.
    pub identity_url: Url,
    /// Where hand-overs are redeemed: `https://<team domain>/cdn-cgi/access/authorized`.
    pub authorized_url: Url,
    /// How old the keys may be while they cannot be fetched.
    pub max_stale: Duration,
}

/// A team that signs its tokens elsewhere.
pub(crate) struct RemoteIssuer {
    running: Arc<Running>,
    http: HttpClient,
    team: ArcSwap<RemoteTeam>,
    /// The last JWKS, for our own `certs`.
    jwks: ArcSwapOption<Bytes>,
    fetching: tokio::sync::Mutex<FetchBudget>,
}

impl RemoteIssuer {
    pub(super) fn new(running: Arc<Running>, http: HttpClient, team: RemoteTeam) -> Self {
        Self {
            running,
            http,
            team: ArcSwap::from_pointee(team),
            jwks: ArcSwapOption::new(None),
            fetching: tokio::sync::Mutex::new(FetchBudget::new(COOLDOWN, Instant::now())),
        }
    }

    /// Returns the addresses and terms of the team.
    pub(super) fn team(&self) -> Arc<RemoteTeam> {
        self.team.load_full()
    }

    pub(super) fn replace(&self, team: RemoteTeam) {
        self.team.store(Arc::new(team));
    }

    /// Returns the last JWKS, if one was fetched.
    pub(super) fn jwks(&self) -> Option<Bytes> {
        self.jwks.load().as_ref().map(|jwks| (**jwks).clone())
    }

    /// Fetches the team's keys: one fetch at a time, and no more than the budget allows. On failure
    /// the last good ones stay until their bound.
    pub(super) async fn refresh_keys(&self) {
        let (team, known) = (self.team(), self.running.known());
        let issuer = self.running.snapshot().issuer().to_owned();
        let mut budget = self.fetching.lock().await;
        let last = known.keys(&issuer);
        if last
            .as_ref()
            .is_some_and(|last| UnixTime::now() < last.retry_from)
        {
            return;
        }
        let retry_from = |budget: &mut FetchBudget| {
            // Never within this second: the requests that caused a fetch are decided by its
            // outcome.
            UnixTime::now().after(budget.wait(Instant::now()) + AFTER_A_FETCH)
        };
        if !budget.take(Instant::now()) {
            // The clock was set forward.
            if let Some(last) = last {
                let (keys, good_until) = (last.keys.clone(), last.good_until);
                known.set_keys(
                    &issuer,
                    IssuerKeys {
                        keys,
                        good_until,
                        retry_from: retry_from(&mut budget),
                    },
                );
            }
            return;
        }
        let fetched = self.fetch_keys(&team.certs_url).await;
        let now = UnixTime::now();
        let outcome = match &fetched {
            Ok(_) => Fetch::Success,
            Err((outcome, _)) => *outcome,
        };
        metrics().jwks(&issuer).fetch(outcome, now);
        let retry_from = retry_from(&mut budget);
        let keys = match fetched {
            Ok((keys, document)) => {
                self.jwks.store(Some(Arc::new(document)));
                IssuerKeys {
                    keys: Some(keys),
                    good_until: now.after(team.max_stale),
                    retry_from,
                }
            }
            Err((_, error)) => {
                tracing::warn!(url = %team.certs_url, error, "the team's keys could not be fetched");
                let (keys, good_until) = last.map_or((None, UnixTime(0)), |last| {
                    (last.keys.clone(), last.good_until)
                });
                IssuerKeys {
                    keys,
                    good_until,
                    retry_from,
                }
            }
        };
        known.set_keys(&issuer, keys);
    }

    async fn fetch_keys(&self, url: &Url) -> Result<(KeySet, Bytes), (Fetch, String)> {
        let response = self.http.get(url, HeaderMap::new(), MAX_DOCUMENT).await;
        let response =
            response.map_err(|error| (Fetch::Unreachable, crate::model::chain(&error)))?;
        if response.status != StatusCode::OK {
            return Err((
                Fetch::Unreachable,
                format!("the answer has status {}", response.status),
            ));
        }
        match KeySet::from_jwks(&response.body) {
            Ok(keys) => Ok((keys, response.body)),
            Err(error) => Err((Fetch::Unusable, crate::model::chain(&error))),
        }
    }

    /// Has the team say what a hand-over that a browser brought to this node is worth.
    pub(crate) async fn redeem(&self, claim: &Claim<'_>) -> Result<Granted, Refused> {
        let team = self.team();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("nonce", claim.nonce)
            .append_pair("state", claim.state)
            .append_pair("app_session", claim.app_session)
            .append_pair("hostname", claim.host)
            .finish();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = [(header::CONTENT_TYPE, kind)].into_iter().collect();
        let answer = self
            .http
            .post(&team.authorized_url, headers, form.into(), MAX_DOCUMENT)
            .await;
        let answer = answer.map_err(|error| {
            tracing::warn!(url = %team.authorized_url, error = crate::model::chain(&error), "a hand-over could not be redeemed");
            Refused::Unavailable
        })?;
        #[derive(Deserialize)]
        struct Elsewhere {
            redirect_url: ReturnTo,
        }
        let to = || {
            json::object::<Elsewhere>(&answer.body)
                .map(|e| e.redirect_url)
                .map_err(|_| Refused::Invalid)
        };
        #[derive(Deserialize)]
        struct Unbound {
            aud: Aud,
        }
        let unbound = || {
            json::object::<Unbound>(&answer.body)
                .map_or(Refused::Invalid, |u| Refused::Unbound(u.aud))
        };
        match answer.status {
            StatusCode::OK => json::object(&answer.body).map_err(|_| Refused::Unavailable),
            StatusCode::CONFLICT => Err(Refused::Used(to()?)),
            StatusCode::GONE => Err(Refused::Over(to()?)),
            StatusCode::FORBIDDEN => Err(unbound()),
            status if status.is_server_error() => Err(Refused::Unavailable),
            _ => Err(Refused::Invalid),
        }
    }

    /// Fetches the identity behind a token, which the team requires; `None` if it rejects it.
    pub(super) async fn identity(
        &self,
        token: &Secret,
        now: UnixTime,
    ) -> Result<Option<Identity>, String> {
        let cookie = HeaderValue::try_from(format!("{}={}", cookie::AUTHORIZATION, token.expose()));
        let mut cookie = cookie.map_err(|_| "the token cannot stand in a header".to_owned())?;
        cookie.set_sensitive(true);
        let headers = [(header::COOKIE, cookie)].into_iter().collect();
        let response = self
            .http
            .get(&self.team().identity_url, headers, MAX_DOCUMENT)
            .await
            .map_err(|error| crate::model::chain(&error))?;
        match response.status {
            StatusCode::OK => read_identity(&response.body, now).map(Some),
            // Any other refusal may be somebody's on the way, and says nothing of the token.
            StatusCode::UNAUTHORIZED => Ok(None),
            status => Err(format!("the answer has status {status}")),
        }
    }
}

/// Reads a `get-identity` document (`docs/wire.md` 2.6), in which groups are names or objects.
///
/// A member that is absent or cannot be read is unknown, not empty: an empty list would defeat
/// rules that deny or exclude. The user, the email address and the provider are required.
fn read_identity(document: &[u8], now: UnixTime) -> Result<Identity, String> {
    let document: Map<String, Value> = json::document(document)
        .map_err(|error| format!("the identity cannot be read: {error}"))?;
    let get = |name: &str| document.get(name).filter(|value| !value.is_null());
    let needed = |name: &'static str| {
        let text = get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("the identity has no `{name}`"))
    };
    let user = needed("user_uuid")?;
    let email = Email::parse(needed("email")?)
        .map_err(|error| format!("the identity's `email`: {error}"))?;
    let idp = |name: &str| {
        get("idp")
            .and_then(|idp| idp.get(name))
            .and_then(Value::as_str)
    };
    let id = idp("id")
        .filter(|id| !id.is_empty())
        .ok_or("the identity names no identity provider")?;
    let kind = idp("type").ok_or("the identity names no type of identity provider")?;
    let group = |group: &Value| match group {
        Value::String(name) => Some(Group {
            id: name.clone(),
            name: name.clone(),
        }),
        Value::Object(members) => {
            let name = members.get("name")?.as_str()?.to_owned();
            let id = members
                .get("id")
                .and_then(Value::as_str)
                .map_or_else(|| name.clone(), str::to_owned);
            Some(Group { id, name })
        }
        _ => None,
    };
    let groups = get("groups").and_then(|groups| {
        groups
            .as_array()?
            .iter()
            .map(group)
            .collect::<Option<Vec<_>>>()
    });
    let amr = get("amr").and_then(|methods| {
        methods
            .as_array()?
            .iter()
            .map(|method| method.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    });
    for (name, read) in [
        ("groups", groups.is_some()),
        ("amr", amr.is_some()),
        (
            "oidc_fields",
            get("oidc_fields").is_some_and(Value::is_object),
        ),
    ] {
        if !read && get(name).is_some() {
            tracing::warn!(
                member = name,
                "ignoring an unreadable member of an identity; its value is unknown"
            );
        }
    }
    Ok(Identity {
        subject: get("id").and_then(Value::as_str).unwrap_or(user).to_owned(),
        user: UserId(user.into()),
        email,
        name: get("name").and_then(Value::as_str).map(str::to_owned),
        idp: IdpRef {
            id: IdpId(id.into()),
            kind: kind.to_owned(),
        },
        groups: groups.map_or(Groups::Unknown, Groups::Known),
        groups_seen: None,
        // There it is empty where it is not known.
        amr: amr.filter(|methods| !methods.is_empty()),
        evaluations: BTreeMap::new(),
        beside: Vec::new(),
        session_ends: None,
        claims: get("oidc_fields")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
        // The document has none, and this node knows none of their names.
        headers: Vec::new(),
        at: now,
        ip: None,
        revision: 0,
    })
}

const MAX_DOCUMENT: usize = 256 * 1024;
/// Tokens that no known key signed cause two fetches at once, and then one in this time.
const COOLDOWN: Duration = Duration::from_secs(30);
const AFTER_A_FETCH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is read of a document in which this is different.
    fn read(changes: &[(&str, Value)]) -> Result<Identity, String> {
        let mut document = json!({
            "id": "s", "user_uuid": "u", "email": "alice@example.com", "groups": ["Eng"], "amr": ["sms"],
            "idp": {"id": "okta", "type": "okta"},
        });
        for (pointer, value) in changes {
            *document.pointer_mut(pointer).unwrap() = value.clone();
        }
        read_identity(document.to_string().as_bytes(), UnixTime(0))
    }

    #[test]
    fn methods_and_groups_that_are_not_said_are_unknown() {
        let methods = |value: Value| read(&[("/amr", value)]).unwrap().amr;
        assert_eq!(methods(json!(["sms"])), Some(vec!["sms".to_owned()]));
        for unknown in [json!([]), json!(null)] {
            assert_eq!(methods(unknown), None);
        }
        let groups = |value: Value| read(&[("/groups", value)]).unwrap().groups;
        assert_eq!(groups(json!(null)), Groups::Unknown);
        assert_eq!(
            groups(json!([])),
            Groups::Known(Vec::new()),
            "what the team writes where somebody is in none"
        );
    }

    #[test]
    fn unreadable_members_of_an_identity_are_unknown() {
        for groups in [
            json!(["Eng", 7]),
            json!([{"id": "x"}]),
            json!([["id", "name"]]),
            json!("Eng"),
            json!({}),
            json!([null]),
        ] {
            assert_eq!(
                read(&[("/groups", groups.clone())]).unwrap().groups,
                Groups::Unknown,
                "{groups}"
            );
        }
        let named = read(&[(
            "/groups",
            json!([{"id": 7, "name": "Eng"}, {"name": "Ops"}]),
        )])
        .unwrap()
        .groups;
        let group = |name: &str| Group {
            id: name.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(named, Groups::Known(vec![group("Eng"), group("Ops")]));
        assert_eq!(read(&[("/amr", json!(["sms", 7]))]).unwrap().amr, None);
        let document = json!({
            "user_uuid": "u", "email": "a@b.c", "name": 7, "id": null, "oidc_fields": null, "idp": {"id": "okta", "type": "okta"},
        });
        let identity =
            read_identity(format!("\u{feff}{document}").as_bytes(), UnixTime(0)).unwrap();
        assert_eq!(
            (
                identity.name,
                identity.claims.len(),
                identity.subject.as_str()
            ),
            (None, 0, "u")
        );
        for (pointer, value) in [
            ("/email", json!("alice@%65xample.com")),
            ("/email", json!(7)),
            ("/user_uuid", json!("")),
        ] {
            assert!(
                read(&[(pointer, value.clone())]).is_err(),
                "{pointer} {value}"
            );
        }
        for odd in ["", "[]", "null", r#"["u","a@b.c"]"#] {
            assert!(read_identity(odd.as_bytes(), UnixTime(0)).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_identity_without_its_provider_is_none() {
        assert_eq!(&*read(&[]).unwrap().idp.id.0, "okta");
        for (pointer, value) in [
            ("/idp", json!(null)),
            ("/idp/id", json!("")),
            ("/idp/id", json!(null)),
            ("/idp", json!({})),
            ("/idp", json!(["okta", "okta"])),
        ] {
            assert!(
                read(&[(pointer, value.clone())]).is_err(),
                "{pointer} {value}"
            );
        }
    }
}
