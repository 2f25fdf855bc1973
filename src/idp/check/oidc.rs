use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::{
    Finding, Registration, Report, Status, Step, accept, describe, describe_groups_failure,
};
use crate::http_client::{MAX_BODY, MAX_DOCUMENT, Response};
use crate::idp::okta::OktaApi;
use crate::idp::{Attempt, GroupsFailure, IssuerMismatch, LoginFailure, Oidc, Pending};
use crate::model::{Secret, UnixTime, fill_random, hex};
use crate::oidc::{Callback, Credentials, FlowSecrets, Hints, Metadata};

impl Oidc {
    pub(in crate::idp) async fn check(
        &self,
        now: UnixTime,
        on_finding: &mut (dyn FnMut(Finding) + Send),
    ) {
        let mut report = Report(on_finding);
        let reached = match self.documents.first() {
            Some(url) => report.reach(&self.http, &url).await.is_some(),
            None => false,
        };
        let metadata = if reached {
            self.check_documents(&mut report).await
        } else {
            None
        };
        match metadata {
            Some(metadata) => {
                self.check_keys(&metadata, &mut report).await;
                self.check_request(&metadata, now, &mut report).await;
                self.check_credentials(&metadata, now, &mut report).await;
            }
            None => {
                if !reached {
                    report.skipped(&[Step::Discovery, Step::Issuer]);
                }
                report.skipped(&[Step::Keys, Step::Request, Step::Credentials]);
            }
        }
        if reached {
            self.check_directory(now, &mut report).await;
        } else if self.directory_api(&mut report).is_some() {
            report.skipped(&[Step::ApiToken, Step::Groups]);
        }
    }

    pub(in crate::idp) fn registration(&self) -> Registration {
        let sign_in_redirect_uri = self.redirect_uri.clone();
        let beside = || self.redirect_uri.join("logged-out").ok();
        let sign_out_redirect_uri = self.settings().provider_logout.then(beside).flatten();
        Registration::Oidc {
            sign_in_redirect_uri,
            sign_out_redirect_uri,
        }
    }

    async fn check_documents(&self, report: &mut Report<'_>) -> Option<Arc<Metadata>> {
        let (documents, issuer) = (&self.documents, self.documents.issuer());
        let location = documents
            .first()
            .map(|url| url.to_string())
            .unwrap_or_default();
        match documents.metadata().await {
            Ok(metadata) if documents.is_fixed() => {
                let none = "not used: the configuration names the endpoints";
                report.add(Step::Discovery, Status::Skipped, none, None);
                let later = format!("only a login shows whether ID tokens are from `{issuer}`");
                report.add(Step::Issuer, Status::Skipped, &later, None);
                Some(metadata)
            }
            Ok(metadata) => {
                if self.settings().provider_logout && metadata.end_session().is_none() {
                    let found = format!(
                        "{location} names no `end_session_endpoint`: logouts do not end the provider's session"
                    );
                    let advice =
                        "remove `okta_logout` or `provider_logout`, or enable it at the provider";
                    report.warning(Step::Discovery, &found, Some(advice));
                } else if !metadata.unreadable().is_empty() {
                    let found = format!(
                        "{location}: ignored, because it cannot be read: {}",
                        metadata.unreadable().join("; ")
                    );
                    report.warning(Step::Discovery, &found, None);
                } else {
                    report.good(Step::Discovery, &location);
                }
                report.good(Step::Issuer, &format!("`{issuer}`"));
                Some(metadata)
            }
            Err(failure) => {
                let hint = self.issuer_hint(&failure).await.map(Cow::from);
                let advice = hint.or_else(|| failure.advice().map(Cow::from));
                if matches!(failure, LoginFailure::Issuer(_)) {
                    report.good(Step::Discovery, &location);
                    report.failed(Step::Issuer, &describe(&failure), advice);
                } else {
                    report.failed(
                        Step::Discovery,
                        &format!("{location}: {}", describe(&failure)),
                        advice,
                    );
                    report.skipped(&[Step::Issuer]);
                }
                None
            }
        }
    }

    /// Suggests a corrected setting.
    async fn issuer_hint(&self, failure: &LoginFailure) -> Option<String> {
        let account = self
            .directory()
            .map(|directory| directory.account().as_str().trim_end_matches('/'));
        match (failure, account) {
            (LoginFailure::Issuer(IssuerMismatch::Discovery { found, .. }), None) => Some(format!(
                "write `issuer = \"{found}\"`, if that is the intended provider"
            )),
            (LoginFailure::Issuer(IssuerMismatch::Discovery { found, .. }), Some(account)) => {
                let (named, server) = found.split_once("/oauth2/").unwrap_or((found, ""));
                let mut hints = Vec::new();
                if named != account {
                    hints.push(format!("write `okta_account = \"{named}\"`"));
                }
                match server {
                    "" => hints.push("remove `authorization_server_id`".to_owned()),
                    server => hints.push(format!("write `authorization_server_id = \"{server}\"`")),
                }
                Some(hints.join(", and "))
            }
            // The custom authorization server does not exist, but the account's own one may.
            (
                LoginFailure::Answer { .. }
                | LoginFailure::Redirect { .. }
                | LoginFailure::Discovery(_),
                Some(account),
            ) if self.documents.issuer() != account => {
                let answer = self
                    .http
                    .get(
                        &Metadata::location(account)?,
                        HeaderMap::new(),
                        MAX_DOCUMENT,
                    )
                    .await
                    .ok()?;
                let there = answer.status == StatusCode::OK
                    && Metadata::read(&answer.body, account).is_ok();
                let hint = "the org authorization server responds: remove `authorization_server_id`, or look it up \
                            in Okta under Security > API > Authorization Servers";
                there.then(|| hint.to_owned())
            }
            _ => None,
        }
    }

    async fn check_keys(&self, metadata: &Metadata, report: &mut Report<'_>) {
        match self.documents.keys(metadata).await {
            Ok(keys) => {
                let algorithms = keys.algorithms();
                let count = algorithms.len();
                let kinds: BTreeSet<_> = algorithms.into_iter().collect();
                let kinds: Vec<_> = kinds.into_iter().collect();
                let ending = if count == 1 { "" } else { "s" };
                let found = format!("{count} key{ending}: {}", kinds.join(", "));
                if keys.unreadable().is_empty() {
                    report.good(Step::Keys, &found);
                } else {
                    let found = format!(
                        "{found}; ignored, because it cannot be used: {}",
                        keys.unreadable().join("; ")
                    );
                    report.warning(Step::Keys, &found, None);
                }
            }
            Err(failure) => report.login_failed(Step::Keys, &failure),
        }
    }

    /// Makes the requests of a browser up to the sign-in form.
    async fn check_request(&self, metadata: &Metadata, now: UnixTime, report: &mut Report<'_>) {
        let state = random();
        let begun = match self.begin(state.expose(), Hints::default(), now).await {
            Ok(begun) => begun,
            // Other client errors would be about our credentials; these are about the request.
            Err(failure @ LoginFailure::PushedRequest { status, .. })
                if status.is_client_error() && !is_about_client(&failure) =>
            {
                return report.failed(
                    Step::Request,
                    &describe(&failure),
                    Some(self.register().into()),
                );
            }
            Err(failure) => return report.login_failed(Step::Request, &failure),
        };
        let answer = match self
            .http
            .get(&begun.url, accept("text/html,*/*"), MAX_BODY)
            .await
        {
            Ok(answer) => answer,
            Err(failure) => {
                let found = format!(
                    "the authorization endpoint cannot be reached: {}",
                    failure.with_cause()
                );
                return report.failed(Step::Request, &found, failure.advice().map(Cow::from));
            }
        };
        let found = format!(
            "the authorization endpoint responded with {}",
            answer.status
        );
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            report.warning(
                Step::Request,
                &found,
                Some("wait a minute, and check again"),
            );
        } else if answer.status.is_client_error() {
            report.failed(Step::Request, &found, Some(self.register().into()));
        } else if answer.status.is_server_error() {
            report.failed(
                Step::Request,
                &found,
                Some("see the identity provider's own log and status page".into()),
            );
        } else if let Some(failure) = self.redirected_error(&answer, &begun.url, &state, metadata) {
            report.login_failed(Step::Request, &failure);
        } else {
            report.good(
                Step::Request,
                &format!("accepted, for `{}`", self.redirect_uri),
            );
        }
    }

    /// Returns the error in the provider's redirect to our callback, if there is one.
    fn redirected_error(
        &self,
        answer: &Response,
        at: &Url,
        state: &Secret,
        metadata: &Metadata,
    ) -> Option<LoginFailure> {
        let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
        let location = at.join(location).ok()?;
        let ours = (&self.redirect_uri.origin(), self.redirect_uri.path())
            == (&location.origin(), location.path());
        let callback = Callback::parse(location.query().filter(|_| ours)?).ok()?;
        let refused = callback.code(state, metadata.response_issuer()).err()?;
        Some(refused.into())
    }

    fn register(&self) -> String {
        format!(
            "most likely the redirect URI or the client id is not registered: register `{}` as a sign-in redirect \
             URI of the application with the client ID `{}`; in Okta, Applications > (the application) > General",
            self.redirect_uri,
            self.settings().client_id
        )
    }

    /// Exchanges an invalid code: a provider that rejects our credentials reports that first (RFC
    /// 6749 5.2).
    async fn check_credentials(&self, metadata: &Metadata, now: UnixTime, report: &mut Report<'_>) {
        let FlowSecrets {
            nonce,
            pkce_verifier,
            ..
        } = FlowSecrets::random(random());
        let (idp, issuer) = (self.settings().id.clone(), metadata.issuer().to_owned());
        let pending = Pending {
            nonce,
            pkce_verifier,
            idp,
            issuer,
            pushed_scopes: None,
            attempt: Attempt::default(),
        };
        let failure = match self.exchange(metadata, &random(), &pending, now).await {
            Ok(_) => {
                return report.warning(
                    Step::Credentials,
                    "the token endpoint accepted an invalid code",
                    None,
                );
            }
            Err(failure) => failure,
        };
        match &failure {
            LoginFailure::TokenEndpoint {
                error: Some(error), ..
            } if is_code(error, "invalid_grant") => {
                let which = match self.settings().credentials {
                    Credentials::Secret(_) => "`client_secret`",
                    Credentials::Key(_) => "`private_key`",
                };
                report.good(
                    Step::Credentials,
                    &format!("{which} belongs to `{}`", self.settings().client_id),
                );
            }
            LoginFailure::TokenEndpoint { status, .. } | LoginFailure::NotJson { status, .. }
                if *status != StatusCode::UNAUTHORIZED && !is_about_client(&failure) =>
            {
                let found = format!("inconclusive without a login: {}", describe(&failure));
                report.warning(Step::Credentials, &found, failure.advice());
            }
            _ => report.login_failed(Step::Credentials, &failure),
        }
    }

    /// Returns Okta's API. Reports a missing API token.
    fn directory_api(&self, report: &mut Report<'_>) -> Option<OktaApi<'_>> {
        let api = self.directory()?.configured_api();
        if api.is_none() {
            let none = "not configured: users in 100 groups or more cannot log in, and groups are read only at login \
                        (`api_token` changes both)";
            report.add(Step::ApiToken, Status::Skipped, none, None);
        }
        api
    }

    async fn check_directory(&self, now: UnixTime, report: &mut Report<'_>) {
        let Some(api) = self.directory_api(report) else {
            return;
        };
        let owner = match api.owner(now).await {
            Ok(owner) => owner,
            Err(failure) => {
                let advice = match &failure {
                    GroupsFailure::Refused {
                        status: StatusCode::NOT_FOUND,
                        ..
                    } => {
                        "Okta's API is not at that URL: check `okta_account` (the custom domain, if there is one)"
                    }
                    other => other.advice(),
                };
                report.failed(
                    Step::ApiToken,
                    &describe_groups_failure(&failure),
                    Some(advice.into()),
                );
                return report.skipped(&[Step::Groups]);
            }
        };
        let (login, status) = (owner.profile.login, owner.status);
        let whose = format!("owned by `{login}`, who is {}", status.to_ascii_lowercase());
        if status == "ACTIVE" {
            report.good(Step::ApiToken, &whose);
        } else {
            let advice =
                "create the token as a permanent user: it becomes invalid with its owner's account";
            report.warning(Step::ApiToken, &whose, Some(advice));
        }
        match api.check_groups_access(&owner.id, now).await {
            Ok(()) => report.good(Step::Groups, "the token can read groups"),
            Err(failure) => report.failed(
                Step::Groups,
                &describe_groups_failure(&failure),
                Some(failure.advice().into()),
            ),
        }
    }
}

fn is_about_client(failure: &LoginFailure) -> bool {
    let (LoginFailure::TokenEndpoint {
        error: Some(error), ..
    }
    | LoginFailure::PushedRequest {
        error: Some(error), ..
    }) = failure
    else {
        return false;
    };
    [
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
    ]
    .iter()
    .any(|code| is_code(error, code))
}

fn is_code(said: &str, code: &str) -> bool {
    said.split(' ').next() == Some(code)
}

fn random() -> Secret {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    Secret::new(hex(&bytes))
}
