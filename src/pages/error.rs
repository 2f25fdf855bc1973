//! Errors that one sentence explains.

use askama::Template;
use http::StatusCode;

use super::{Link, NO_GROUPS, Page, START_AGAIN, STYLE, TELL_THE_ADMINISTRATOR, marked, render};
use crate::model::Support;

/// An error page. The constructors hold the wording of each error.
#[derive(Debug, Clone, Template)]
#[template(path = "error.html", config = "src/pages/askama.toml")]
pub(crate) struct ErrorPage<'a> {
    /// The status of the response, also shown on the page.
    pub(crate) status: StatusCode,
    pub(crate) title: &'a str,
    pub(crate) sentence: &'a str,
    /// The remedy.
    pub(crate) hint: Option<&'a str>,
    pub(crate) retry: Option<Link<'a>>,
    /// The URL to sign in with another account. It becomes the main button.
    pub(crate) switch_account: Option<&'a str>,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the audit event.
    pub(crate) reason: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl<'a> ErrorPage<'a> {
    /// Returns an error page with the caller's wording.
    pub(crate) fn new(
        status: StatusCode,
        title: &'a str,
        sentence: &'a str,
        request_id: &'a str,
    ) -> Self {
        let (hint, retry, switch_account, support, reason) = (None, None, None, None, None);
        Self {
            status,
            title,
            sentence,
            hint,
            retry,
            switch_account,
            support,
            reason,
            request_id,
        }
    }

    /// 400: the request is malformed, or cannot be interpreted safely.
    pub(crate) fn bad_request(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "Bad request",
            "The request was malformed and was rejected.",
            request_id,
        )
    }

    /// 404: no application is configured for this host and path.
    pub(crate) fn application_not_found(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Unable to find your Access application!",
            "No application is set up at this address.",
            request_id,
        )
        .with_hint("Check the address. If it is correct, contact your administrator.")
    }

    /// 408: the request did not end in time.
    pub(crate) fn request_too_slow(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "Request timed out",
            "The request did not arrive in time.",
            request_id,
        )
    }

    /// 413: the request body is over the limit.
    pub(crate) fn content_too_large(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Upload too large",
            "The upload is larger than this application accepts.",
            request_id,
        )
    }

    /// 414: the request target is over the limit.
    pub(crate) fn target_too_long(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "Address too long",
            "This address is longer than this server accepts.",
            request_id,
        )
    }

    /// 414: a login could not return to this page, because its URL is too long.
    pub(crate) fn login_target_too_long(login: &'a str, request_id: &'a str) -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "Address too long to sign in from",
            "You are not signed in, and this address is too long to return to after you sign in.",
            request_id,
        )
        .with_hint("Sign in first, then open the address again.")
        .with_retry(Some(Link {
            href: login,
            label: "Sign in",
        }))
    }

    /// 400: servers that read the path differently would find different applications.
    pub(crate) fn path_ambiguous(request_id: &'a str) -> Self {
        Self::bad_request(request_id).with_hint(
            "Servers can interpret this address in more than one way. Check its spelling, including upper and lower case.",
        )
    }

    /// 400: a logout could not check all sign-in cookies of the browser.
    pub(crate) fn logout_incomplete(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "You may still be signed in",
            "Your browser sent so many sign-in cookies that not all of them were checked.",
            request_id,
        )
        .with_hint("Delete the cookies of this site in your browser's settings. Then sign in and out again.")
    }

    /// 421: the request names another host than the connection.
    pub(crate) fn misdirected(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Wrong connection",
            "Your browser used a connection that was opened for another address.",
            request_id,
        )
        .with_hint("Reload the page; if that does not help, close the browser and try again.")
    }

    /// 431: the request header section is over the limit.
    pub(crate) fn headers_too_large(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "Request headers too large",
            "Your browser sent more headers than this server accepts.",
            request_id,
        )
        .with_hint("Deleting the cookies of this site usually helps.")
    }

    /// 500: an internal error.
    pub(crate) fn internal(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong.",
            "An internal error stopped this request.",
            request_id,
        )
        .with_hint(TELL_THE_ADMINISTRATOR)
    }

    /// 502: no connection to the application's origin, or no usable answer from it.
    pub(crate) fn upstream_unreachable(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "The application cannot be reached.",
            "The server behind this address did not respond; this is not a problem with your sign-in.",
            request_id,
        )
        .with_hint("Wait a minute, then try again.")
    }

    /// 503: every origin of the application fails its health check.
    pub(crate) fn upstream_unhealthy(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The application is down.",
            "No server behind this address is working right now; this is not a problem with your sign-in.",
            request_id,
        )
        .with_hint("Try again in a minute.")
    }

    /// 503: the process has reached its limit of connections.
    pub(crate) fn overloaded(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many connections at once.",
            "This service cannot reach the application right now; this is not a problem with your sign-in.",
            request_id,
        )
        .with_hint("Try again in a minute.")
    }

    /// 504: the application's origin took longer than its time limit.
    pub(crate) fn upstream_too_slow(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "The application took too long.",
            "The server behind this address did not respond in time; this is not a problem with \
             your sign-in.",
            request_id,
        )
        .with_hint("It may have completed your request. Check before you send it again.")
    }

    /// 503: access could not be decided, or the identity provider cannot be reached.
    pub(crate) fn unavailable(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Sign-in is currently unavailable.",
            "A service that verifies your identity cannot be reached.",
            request_id,
        )
        .with_hint("Try again in a minute.")
    }

    /// 400: the login took too long, or its state was already used.
    pub(crate) fn login_expired(start_again: Option<&'a str>, request_id: &'a str) -> Self {
        let sentence = "It took too long, or it was already completed.";
        let page = Self::new(
            StatusCode::BAD_REQUEST,
            "This sign-in has expired.",
            sentence,
            request_id,
        );
        page.with_retry(start_again.map(|href| Link {
            href,
            label: START_AGAIN,
        }))
    }

    /// 403: logins succeed, but this server rejects each new session.
    pub(crate) fn session_not_accepted(start_again: &'a str, request_id: &'a str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Your sign-in was not accepted.",
            "You signed in, but this server does not accept the new session.",
            request_id,
        )
        .with_hint("Ask your administrator to check this server's clock, and its log.")
        .with_retry(Some(Link {
            href: start_again,
            label: START_AGAIN,
        }))
    }

    /// 503: the identity provider did not return the user's details or groups. The title is the
    /// text of Cloudflare Access, which its documentation and users' runbooks quote.
    pub(crate) fn groups_unavailable(request_id: &'a str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            NO_GROUPS,
            "Without it, access cannot be determined.",
            request_id,
        )
        .with_hint(TELL_THE_ADMINISTRATOR)
    }

    /// Adds a remedy.
    pub(crate) fn with_hint(self, hint: &'a str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Adds a link to try again.
    pub(crate) fn with_retry(self, retry: Option<Link<'a>>) -> Self {
        Self { retry, ..self }
    }

    /// Adds a button to sign in with another account.
    pub(crate) fn with_switch(self, switch_account: Option<&'a str>) -> Self {
        Self {
            switch_account,
            ..self
        }
    }

    /// Adds the contact for users.
    pub(crate) fn with_support(self, support: Option<&'a Support>) -> Self {
        Self { support, ..self }
    }

    /// Adds the reason id, as in the audit event.
    pub(crate) fn with_reason(self, reason: &'a str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// Returns the page with the error's status.
    pub(crate) fn page(&self) -> Page {
        render(self.status, self)
    }
}
