use askama::Template;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::params::{Params, extend};
use super::{CodeGrant, DemoProvider, STYLE, Scope, UnixTime, notice, pages};
use crate::demo::users::{Expected, USERS, User};

/// The page with the choice of users.
#[derive(Template)]
#[template(path = "users.html", config = "src/demo/askama.toml")]
struct UserChoice {
    choices: Vec<Choice>,
    /// The URL that cancels the login.
    cancel: String,
}

struct Choice {
    user: &'static User,
    initial: char,
    /// The applications that the user can open.
    outcome: String,
    href: String,
}

/// An error that is returned to the client (RFC 6749 4.1.2.1).
struct Refusal {
    error: &'static str,
    description: &'static str,
}

const fn refusal(error: &'static str, description: &'static str) -> Refusal {
    Refusal { error, description }
}

impl DemoProvider {
    /// OpenID Connect Core 1.0, section 3.1.2. The choice of a user repeats the request with `user`
    /// added. So the page has no state, and any number of tabs can be open.
    pub(super) fn authorize(&self, query: &str, now: UnixTime) -> Response<Bytes> {
        let unusable = |why| {
            notice(
                StatusCode::BAD_REQUEST,
                "This sign-in cannot continue.",
                why,
            )
        };
        if query.len() > MOST_QUERY {
            return unusable("The request is too long.");
        }
        let Ok(params) = Params::parse(query.as_bytes()) else {
            return unusable("A parameter of the request occurs twice.");
        };
        // RFC 6749 4.1.2.1: without a known client and its registered URI, an error must not be
        // returned by redirect.
        if !params.is("client_id", self.credentials.client_id) {
            return unusable("The client_id is not registered.");
        }
        if !params.is("redirect_uri", &self.redirect_uri) {
            return unusable("The redirect_uri is not registered.");
        }
        let (challenge, scope) = match requirements(&params) {
            Ok(required) => required,
            Err(refusal) => return self.refuse(&params, &refusal),
        };
        let Some(login) = params.get("user") else {
            return choose(query);
        };
        if login == CANCEL {
            return self.refuse(
                &params,
                &refusal("access_denied", "the login was cancelled"),
            );
        }
        let Some(user) = User::by_login(login) else {
            return unusable("Unknown user.");
        };
        let nonce = params.get("nonce").map(str::to_owned);
        let code = self.codes().insert(
            CodeGrant {
                user,
                scope,
                nonce,
                challenge,
                at: now,
            },
            now,
        );
        self.answer(&params, &[("code", Some(&code))])
    }

    fn refuse(&self, params: &Params, refusal: &Refusal) -> Response<Bytes> {
        self.answer(
            params,
            &[
                ("error", Some(refusal.error)),
                ("error_description", Some(refusal.description)),
            ],
        )
    }

    /// Redirects to the client with its `state` and the issuer (RFC 9207 2).
    fn answer(&self, params: &Params, answer: &[(&str, Option<&str>)]) -> Response<Bytes> {
        let common = [
            ("state", params.get("state")),
            ("iss", Some(self.issuer.as_str())),
        ];
        pages::redirect(&extend(&self.redirect_uri, &[answer, &common].concat()))
    }
}

/// Returns the code challenge and the scope of a request, if all its parameters are supported.
fn requirements(params: &Params) -> Result<(String, Scope), Refusal> {
    if !params.is("response_type", "code") {
        return Err(refusal(
            "unsupported_response_type",
            "the response_type must be code",
        ));
    }
    if params
        .get("response_mode")
        .is_some_and(|mode| mode != "query")
    {
        return Err(refusal(
            "invalid_request",
            "the response_mode must be query",
        ));
    }
    // OIDC Core 6.1, 6.2
    if params.get("request").is_some() {
        return Err(refusal(
            "request_not_supported",
            "request objects are not supported",
        ));
    }
    if params.get("request_uri").is_some() {
        return Err(refusal(
            "request_uri_not_supported",
            "request objects are not supported",
        ));
    }
    let scope = Scope(params.get("scope").unwrap_or_default().to_owned());
    if !scope.has("openid") {
        return Err(refusal("invalid_scope", "the scope must contain openid"));
    }
    // RFC 7636 4.4.1; the default method is `plain`.
    if !params.is("code_challenge_method", "S256") {
        return Err(refusal(
            "invalid_request",
            "PKCE is required: the code_challenge_method must be S256",
        ));
    }
    let Some(challenge) = params
        .get("code_challenge")
        .filter(|challenge| is_sha256(challenge))
    else {
        return Err(refusal(
            "invalid_request",
            "PKCE is required: the code_challenge must be a base64url SHA-256",
        ));
    };
    // OIDC Core 3.1.2.6: there are no sessions, so a login always needs the choice of a user.
    if params
        .get("prompt")
        .is_some_and(|prompt| prompt.split(' ').any(|word| word == "none"))
    {
        return Err(refusal("login_required", "a user must be chosen"));
    }
    Ok((challenge.to_owned(), scope))
}

fn choose(query: &str) -> Response<Bytes> {
    let href = |login: &str| {
        extend(
            &format!("/oauth2/v1/authorize?{query}"),
            &[("user", Some(login))],
        )
    };
    let choice = |user: &'static User| Choice {
        user,
        initial: user.name.chars().next().unwrap_or('?'),
        outcome: outcome(user),
        href: href(user.login),
    };
    pages::html(
        StatusCode::OK,
        &UserChoice {
            choices: USERS.iter().map(choice).collect(),
            cancel: href(CANCEL),
        },
    )
}

fn outcome(user: &User) -> String {
    match user.expected.contains(&Expected::NoLogin) {
        true => "Sign-in will be refused".to_owned(),
        false => format!("Opens {}", user.opens().join(" and ")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The value of `user` that cancels the login.
const CANCEL: &str = "cancel";

/// In bytes. The proxy's own requests are much shorter.
const MOST_QUERY: usize = 16 * 1024;
