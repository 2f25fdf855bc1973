//! Another team's keys and identities: an edge node without the login side, or an origin behind
//! Cloudflare Access itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::RemoteTeam;
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
        let budget = FetchBudget::new(COOLDOWN, running.clock().instant());
        Self {
            running,
            http,
            team: ArcSwap::from_pointee(team),
            jwks: ArcSwapOption::new(None),
            fetching: tokio::sync::Mutex::new(budget),
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

    /// Fetches the team's keys: one fetch at a time, and no more than the budget allows. If that
    /// fails, the last ones stay until their bound.
    pub(super) async fn refresh_keys(&self) {
        let (known, clock) = (self.running.cache(), self.running.clock());
        let issuer = self.running.snapshot().issuer().to_owned();
        // Callers queue here. Those that waited for another's fetch find its keys and return.
        let mut budget = self.fetching.lock().await;
        let last = known.keys(&issuer);
        if last
            .as_ref()
            .is_some_and(|last| clock.now() < last.retry_from)
        {
            return;
        }
        let keys = if budget.take(clock.instant()) {
            self.fetch_or_keep(&issuer, last.as_deref(), &mut budget)
                .await
        } else if let Some(last) = last {
            // The clock was set forward.
            IssuerKeys {
                keys: last.keys.clone(),
                good_until: last.good_until,
                retry_from: self.retry_from(&mut budget),
            }
        } else {
            return;
        };
        known.set_keys(&issuer, keys);
    }

    async fn fetch_or_keep(
        &self,
        issuer: &str,
        last: Option<&IssuerKeys>,
        budget: &mut FetchBudget,
    ) -> IssuerKeys {
        let team = self.team();
        let fetched = self.fetch_keys(&team.certs_url).await;
        let now = self.running.now();
        let outcome = match &fetched {
            Ok(_) => Fetch::Success,
            Err((outcome, _)) => *outcome,
        };
        metrics().jwks(issuer).fetch(outcome, now);
        let retry_from = self.retry_from(budget);
        match fetched {
            Ok((keys, document)) => {
                self.jwks.store(Some(Arc::new(document)));
                IssuerKeys {
                    keys: Some(keys),
                    good_until: now.after(team.max_stale),
                    retry_from,
                }
            }
            Err((_, error)) => {
                tracing::warn!(url = %team.certs_url, error, "could not fetch the team's keys");
                IssuerKeys {
                    keys: last.and_then(|last| last.keys.clone()),
                    // A failed fetch does not prolong the trust in old keys.
                    good_until: last.map_or(UnixTime(0), |last| last.good_until),
                    retry_from,
                }
            }
        }
    }

    /// Returns the time of the next fetch. It is never within this second: the outcome of a fetch
    /// decides the requests that caused it.
    fn retry_from(&self, budget: &mut FetchBudget) -> UnixTime {
        let clock = self.running.clock();
        clock
            .now()
            .after(budget.wait(clock.instant()) + AFTER_A_FETCH)
    }

    async fn fetch_keys(&self, url: &Url) -> Result<(KeySet, Bytes), (Fetch, String)> {
        let response = self.http.get(url, HeaderMap::new(), MAX_DOCUMENT).await;
        let response =
            response.map_err(|error| (Fetch::Unreachable, crate::model::chain(&error)))?;
        if response.status != StatusCode::OK {
            return Err((
                Fetch::Unreachable,
                format!("the response has status {}", response.status),
            ));
        }
        match KeySet::from_jwks(&response.body) {
            Ok(keys) => Ok((keys, response.body)),
            Err(error) => Err((Fetch::Unusable, crate::model::chain(&error))),
        }
    }

    /// Redeems a hand-over that a browser brought to this node, at the team.
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
            // The hand-over may still be unused, so the user may try again.
            status if status.is_server_error() => Err(Refused::Unavailable),
            _ => Err(Refused::Invalid),
        }
    }

    /// Fetches the identity behind a token; `None` if the team rejects the token.
    pub(super) async fn identity(
        &self,
        token: &Secret,
        now: UnixTime,
    ) -> Result<Option<Identity>, String> {
        let cookie = HeaderValue::try_from(format!("{}={}", cookie::AUTHORIZATION, token.expose()));
        let mut cookie = cookie.map_err(|_| "the token is not a valid header value".to_owned())?;
        cookie.set_sensitive(true);
        let headers = [(header::COOKIE, cookie)].into_iter().collect();
        let response = self
            .http
            .get(&self.team().identity_url, headers, MAX_DOCUMENT)
            .await
            .map_err(|error| crate::model::chain(&error))?;
        match response.status {
            StatusCode::OK => read_identity(&response.body, now).map(Some),
            // Any other status may come from a server on the way, and means nothing about the
            // token.
            StatusCode::UNAUTHORIZED => Ok(None),
            status => Err(format!("the response has status {status}")),
        }
    }
}

/// Reads a `get-identity` document (`docs/wire.md` 2.6).
///
/// A member that is absent or cannot be read is unknown, not empty: an empty list would defeat
/// rules that deny or exclude. The user, the email address and the provider are required.
fn read_identity(document: &[u8], now: UnixTime) -> Result<Identity, String> {
    let document = IdentityDocument::parse(document)?;
    let user = document.required("user_uuid")?;
    let email = Email::parse(document.required("email")?)
        .map_err(|error| format!("the identity's `email`: {error}"))?;
    let idp = document.provider()?;
    let (groups, amr, claims) = (document.groups(), document.methods(), document.claims());
    for (name, is_read) in [
        ("groups", groups.is_some()),
        ("amr", amr.is_some()),
        ("oidc_fields", claims.is_some()),
    ] {
        if !is_read && document.get(name).is_some() {
            tracing::warn!(
                member = name,
                "ignoring an unreadable member of an identity; its value is unknown"
            );
        }
    }
    Ok(Identity {
        subject: document.text("id").unwrap_or(user).to_owned(),
        user: UserId(user.into()),
        email,
        name: document.text("name").map(str::to_owned),
        idp,
        groups: groups.map_or(Groups::Unknown, Groups::Known),
        groups_seen: None,
        // The document has an empty list if the methods are unknown.
        amr: amr.filter(|methods| !methods.is_empty()),
        evaluations: BTreeMap::new(),
        beside: Vec::new(),
        session_ends: None,
        claims: claims.unwrap_or_default(),
        // The document has no such headers, and this node does not know their names.
        headers: Vec::new(),
        at: now,
        ip: None,
        revision: 0,
    })
}

/// The members of a `get-identity` document.
struct IdentityDocument(Map<String, Value>);

impl IdentityDocument {
    fn parse(document: &[u8]) -> Result<Self, String> {
        json::document(document)
            .map(Self)
            .map_err(|error| format!("the identity cannot be read: {error}"))
    }

    /// Returns a member; `None` if it is absent or null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn required(&self, name: &'static str) -> Result<&str, String> {
        self.text(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("the identity has no `{name}`"))
    }

    fn provider(&self) -> Result<IdpRef, String> {
        let member = |name: &str| self.get("idp")?.get(name)?.as_str();
        let id = member("id")
            .filter(|id| !id.is_empty())
            .ok_or("the identity names no identity provider")?;
        let kind = member("type").ok_or("the identity names no type of identity provider")?;
        Ok(IdpRef {
            id: IdpId(id.into()),
            kind: kind.to_owned(),
        })
    }

    /// Returns the groups; `None` if one of them cannot be read.
    fn groups(&self) -> Option<Vec<Group>> {
        self.get("groups")?.as_array()?.iter().map(group).collect()
    }

    /// Returns the authentication methods; `None` if one of them cannot be read.
    fn methods(&self) -> Option<Vec<String>> {
        let methods = self.get("amr")?.as_array()?.iter();
        methods
            .map(|method| method.as_str().map(str::to_owned))
            .collect()
    }

    fn claims(&self) -> Option<Map<String, Value>> {
        self.get("oidc_fields")?.as_object().cloned()
    }
}

/// Reads a group, which is a name or an object.
fn group(group: &Value) -> Option<Group> {
    match group {
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
    }
}

// Room for more than a thousand groups. A team that misbehaves must not fill the memory.
const MAX_DOCUMENT: usize = 256 * 1024;
/// A token with an unknown key causes a fetch: two at once, and then one in this time.
const COOLDOWN: Duration = Duration::from_secs(30);
// The requests that waited for a fetch are decided again at once, and must find its outcome instead
// of a new need.
const AFTER_A_FETCH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Reads a document with these changes.
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
