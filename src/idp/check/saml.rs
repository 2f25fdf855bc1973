use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use super::{Finding, Registration, Report, Step};
use crate::http_client::HttpClient;
use crate::idp::Saml;
use crate::model::UnixTime;
use crate::saml::CertificateInfo;

impl Saml {
    pub(in crate::idp) async fn check(
        &self,
        http: &HttpClient,
        now: UnixTime,
        on_finding: &mut (dyn FnMut(Finding) + Send),
    ) {
        let mut report = Report(on_finding);
        for certificate in self.provider().certificate_info() {
            report_validity(certificate, now, &mut report);
        }
        match report.reach(http, self.provider().sso_url()).await {
            None => report.skipped(&[Step::Answer]),
            // Any other error is due to the missing SAML request.
            Some(Ok(status @ StatusCode::NOT_FOUND)) => {
                let advice = "not found: copy the provider's sign-on URL to `sso_target_url`";
                report.warning(
                    Step::Answer,
                    &format!("`{}`: {status}", self.provider().sso_url()),
                    Some(advice),
                );
            }
            Some(Ok(status)) => report.good(
                Step::Answer,
                &format!("`{}`: {status}", self.provider().sso_url()),
            ),
            Some(Err(failure)) => report.failed(
                Step::Answer,
                &failure.with_cause(),
                failure.advice().map(Cow::from),
            ),
        }
    }

    pub(in crate::idp) fn registration(&self) -> Registration {
        let provider = self.provider();
        let metadata = format!("{}/saml-metadata", self.id().0);
        Registration::Saml {
            acs_url: provider.acs().to_owned(),
            entity_id: provider.entity_id().to_owned(),
            metadata_url: provider.acs_url().join(&metadata).ok(),
        }
    }
}

/// Reports the validity period of a certificate. Logins ignore it: the operator's configuration
/// decides which certificates are trusted, and how long.
fn report_validity(certificate: &CertificateInfo, now: UnixTime, report: &mut Report<'_>) {
    let CertificateInfo {
        subject,
        fingerprint,
        not_before,
        not_after,
    } = certificate;
    let named = format!("`{subject}`, SHA-256 {fingerprint}");
    if now > *not_after {
        let advice = "logins still work, but check the provider for a newer certificate and list it beside this one \
                      in `idp_public_certs`";
        report.warning(
            Step::Certificate,
            &format!("{named}: expired on {}", date(*not_after)),
            Some(advice),
        );
    } else if now < *not_before {
        let advice =
            "is this the certificate of the next rotation, or is this machine's clock wrong?";
        report.warning(
            Step::Certificate,
            &format!("{named}: valid only from {}", date(*not_before)),
            Some(advice),
        );
    } else if now.after(SOON) > *not_after {
        let advice = "list the provider's next certificate beside it in `idp_public_certs` before the provider uses it";
        report.warning(
            Step::Certificate,
            &format!("{named}: expires on {}", date(*not_after)),
            Some(advice),
        );
    } else {
        report.good(
            Step::Certificate,
            &format!("{named}, until {}", date(*not_after)),
        );
    }
}

fn date(time: UnixTime) -> String {
    let at = i64::try_from(time.0)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map(|at| at.strftime("%Y-%m-%d").to_string())
        .unwrap_or_else(|| "an unknown date".to_owned())
}

/// The notice before a certificate expires: one month.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
