use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::params::{Params, extend};
use super::{DemoProvider, Secret, UnixTime, credentials, oauth_error, pages};
use crate::demo::users::{DemoGroup, User};

impl DemoProvider {
    /// OpenID Connect Core 1.0, section 5.3. As at Okta, the claim holds at most a hundred groups,
    /// and is omitted if there are none.
    pub(super) fn userinfo(&self, headers: &HeaderMap, now: UnixTime) -> Response<Bytes> {
        let access =
            credentials(headers, "Bearer").and_then(|token| self.access().get(token, now).cloned());
        let Some(access) = access else {
            let refusal = oauth_error(
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                "the access token is unknown or expired",
            );
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            return pages::with_header(refusal, header::WWW_AUTHENTICATE, challenge);
        };
        let (user, scope) = (access.user, &access.scope);
        let mut claims = json!({"sub": user.subject()});
        let mut add = |name: &str, value: Value| {
            claims
                .as_object_mut()
                .and_then(|c| c.insert(name.to_owned(), value))
        };
        if scope.has("profile") {
            add("name", user.name.into());
            add("preferred_username", user.email().into());
        }
        if scope.has("email") {
            add("email", user.email().into());
            add("email_verified", user.email_verified.into());
        }
        let groups: Vec<Value> = user
            .groups()
            .into_iter()
            .take(MOST_IN_CLAIM)
            .map(|group| group.name.into())
            .collect();
        if scope.has("groups") && !groups.is_empty() {
            add("groups", groups.into());
        }
        pages::json(StatusCode::OK, &claims)
    }

    /// Okta's `GET /api/v1/users/{id}/groups`: all groups, in pages.
    pub(super) fn groups(
        &self,
        subject: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Response<Bytes> {
        if credentials(headers, "SSWS").map(Secret::new).as_ref()
            != Some(&self.credentials.api_token)
        {
            return api_error(
                StatusCode::UNAUTHORIZED,
                "E0000011",
                "Invalid token provided",
            );
        }
        let subject = percent_decode_str(subject).decode_utf8_lossy();
        let Some(user) = User::by_subject(&subject) else {
            return api_error(
                StatusCode::NOT_FOUND,
                "E0000007",
                "Not found: Resource not found (User)",
            );
        };
        let Ok(params) = Params::parse(query.as_bytes()) else {
            return api_error(
                StatusCode::BAD_REQUEST,
                "E0000001",
                "Api validation failed: a parameter occurs twice",
            );
        };
        self.page_of_groups(user, &params).unwrap_or_else(|fault| {
            api_error(
                StatusCode::BAD_REQUEST,
                "E0000001",
                &format!("Api validation failed: {fault}"),
            )
        })
    }

    /// Returns one page of a user's groups with the links to itself and to the next page.
    ///
    /// # Errors
    /// The name of an invalid parameter.
    fn page_of_groups(
        &self,
        user: &User,
        params: &Params,
    ) -> Result<Response<Bytes>, &'static str> {
        let limit = params.get("limit").map_or(Ok(MOST_IN_PAGE), str::parse);
        let Ok(limit @ 1..) = limit else {
            return Err("limit");
        };
        let all = user.groups();
        let start = match params.get("after") {
            None => Some(0),
            Some(cursor) => all
                .iter()
                .position(|group| group.id == cursor)
                .map(|index| index + 1),
        };
        let rest = start.and_then(|start| all.get(start..)).ok_or("after")?;
        let limit = limit.min(MOST_IN_PAGE);
        let page: Vec<Value> = rest.iter().take(limit).map(describe).collect();
        let mut response = pages::json(StatusCode::OK, &page);
        let base = format!("{}/api/v1/users/{}/groups", self.issuer, user.subject());
        let link = |cursor: Option<&str>, rel: &str| {
            let address = extend(
                &base,
                &[("after", cursor), ("limit", Some(&limit.to_string()))],
            );
            HeaderValue::try_from(format!("<{address}>; rel=\"{rel}\"")).ok()
        };
        let next = rest
            .get(limit..)
            .filter(|left| !left.is_empty())
            .and_then(|_| rest.get(limit - 1));
        let links = [
            link(params.get("after"), "self"),
            next.and_then(|last| link(Some(&last.id), "next")),
        ];
        for link in links.into_iter().flatten() {
            response.headers_mut().append(header::LINK, link);
        }
        Ok(response)
    }
}

/// Returns the id in `/api/v1/users/{id}/groups`.
pub(super) fn subject(path: &str) -> Option<&str> {
    let subject = path
        .strip_prefix("/api/v1/users/")?
        .strip_suffix("/groups")?;
    (!subject.is_empty() && !subject.contains('/')).then_some(subject)
}

fn describe(group: &DemoGroup) -> Value {
    let kind = if group.name == "Everyone" {
        "BUILT_IN"
    } else {
        "OKTA_GROUP"
    };
    json!({
        "id": group.id, "type": kind, "objectClass": ["okta:user_group"],
        "profile": {"name": group.name, "description": null},
    })
}

fn api_error(status: StatusCode, code: &str, summary: &str) -> Response<Bytes> {
    let id = super::random();
    pages::json(
        status,
        &json!({"errorCode": code, "errorSummary": summary, "errorLink": code, "errorId": id, "errorCauses": []}),
    )
}

/// Okta's limit of groups in a claim.
const MOST_IN_CLAIM: usize = 100;

/// Okta's limit of groups on a page of the API.
const MOST_IN_PAGE: usize = 200;
