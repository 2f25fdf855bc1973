use askama::Template;
use bytes::Bytes;
use http::{Response, StatusCode};

use super::params::{Params, extend};
use super::{DemoProvider, Grant, STYLE, Scope, UnixTime, notice, pages};
use crate::demo::people::{PEOPLE, Person, Sees};

/// The page that asks who one is.
#[derive(Template)]
#[template(path = "people.html", config = "src/demo/askama.toml")]
struct People {
    choices: Vec<Choice>,
    /// Ends the login without anybody.
    cancel: String,
}

struct Choice {
    person: &'static Person,
    initial: char,
    /// What they can open.
    outcome: String,
    href: String,
}

/// An error that is the client's to hear (RFC 6749 §4.1.2.1).
type Refusal = (&'static str, &'static str);

impl DemoProvider {
    /// OpenID Connect Core 1.0 §3.1.2. The choice of a person is the same request once more, with
    /// `person` added: so the page has no state, and any number of tabs can be open.
    pub(super) fn authorize(&self, query: &str, now: UnixTime) -> Response<Bytes> {
        let unusable = |why| notice(StatusCode::BAD_REQUEST, "This login cannot go on.", why);
        if query.len() > MOST_QUERY {
            return unusable("Its request is too long.");
        }
        let Ok(params) = Params::parse(query.as_bytes()) else {
            return unusable("A parameter of its request stands there twice.");
        };
        // RFC 6749 §4.1.2.1: without a known client and its own address there is nobody to send an
        // error to.
        if !params.is("client_id", self.credentials.client_id) {
            return unusable("The client_id is not the demo’s.");
        }
        if !params.is("redirect_uri", &self.redirect_uri) {
            return unusable("The redirect_uri is not the registered one.");
        }
        let (challenge, scope) = match requirements(&params) {
            Ok(required) => required,
            Err(refusal) => return self.refuse(&params, refusal),
        };
        let Some(login) = params.get("person") else {
            return choose(query);
        };
        if login == NOBODY {
            return self.refuse(&params, ("access_denied", "the login was cancelled"));
        }
        let Some(person) = Person::by_login(login) else {
            return unusable("There is nobody of that name.");
        };
        let nonce = params.get("nonce").map(str::to_owned);
        let code = self.codes().insert(
            Grant {
                person,
                scope,
                nonce,
                challenge,
                at: now,
            },
            now,
        );
        self.answer(&params, &[("code", Some(&code))])
    }

    fn refuse(&self, params: &Params, (error, description): Refusal) -> Response<Bytes> {
        self.answer(
            params,
            &[
                ("error", Some(error)),
                ("error_description", Some(description)),
            ],
        )
    }

    /// Back to the client, with the `state` it sent and, by RFC 9207 §2, who answers.
    fn answer(&self, params: &Params, answer: &[(&str, Option<&str>)]) -> Response<Bytes> {
        let common = [
            ("state", params.get("state")),
            ("iss", Some(self.issuer.as_str())),
        ];
        pages::redirect(&extend(&self.redirect_uri, &[answer, &common].concat()))
    }
}

/// The code challenge and the scope of a request that asks for nothing else than there is.
fn requirements(params: &Params) -> Result<(String, Scope), Refusal> {
    if !params.is("response_type", "code") {
        return Err((
            "unsupported_response_type",
            "the response_type must be code",
        ));
    }
    if params
        .get("response_mode")
        .is_some_and(|mode| mode != "query")
    {
        return Err(("invalid_request", "the response_mode must be query"));
    }
    // OIDC Core 6.1, 6.2
    if params.get("request").is_some() {
        return Err(("request_not_supported", "request objects are not supported"));
    }
    if params.get("request_uri").is_some() {
        return Err((
            "request_uri_not_supported",
            "request objects are not supported",
        ));
    }
    let scope = Scope(params.get("scope").unwrap_or_default().to_owned());
    if !scope.has("openid") {
        return Err(("invalid_scope", "the scope must hold openid"));
    }
    // RFC 7636 §4.4.1; without a method it would be `plain`.
    if !params.is("code_challenge_method", "S256") {
        return Err((
            "invalid_request",
            "PKCE is required: the code_challenge_method must be S256",
        ));
    }
    let Some(challenge) = params
        .get("code_challenge")
        .filter(|challenge| is_sha256(challenge))
    else {
        return Err((
            "invalid_request",
            "PKCE is required: the code_challenge must be a base64url SHA-256",
        ));
    };
    // OIDC Core 3.1.2.6: everybody is asked, so nobody is logged in already.
    if params
        .get("prompt")
        .is_some_and(|prompt| prompt.split(' ').any(|word| word == "none"))
    {
        return Err(("login_required", "somebody must choose who to be"));
    }
    Ok((challenge.to_owned(), scope))
}

fn choose(query: &str) -> Response<Bytes> {
    let href = |login: &str| {
        extend(
            &format!("/oauth2/v1/authorize?{query}"),
            &[("person", Some(login))],
        )
    };
    let choice = |person: &'static Person| Choice {
        person,
        initial: person.name.chars().next().unwrap_or('?'),
        outcome: outcome(person),
        href: href(person.login),
    };
    pages::html(
        StatusCode::OK,
        &People {
            choices: PEOPLE.iter().map(choice).collect(),
            cancel: href(NOBODY),
        },
    )
}

fn outcome(person: &Person) -> String {
    match person.sees.contains(&Sees::NoLogin) {
        true => "The login will be refused".to_owned(),
        false => format!("Opens {}", person.opens().join(" and ")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Stands for a login that is cancelled.
const NOBODY: &str = "nobody";

/// In bytes; a request of ours takes a small part of it.
const MOST_QUERY: usize = 16 * 1024;
