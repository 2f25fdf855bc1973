//! Checks of the listeners' certificates and of certificate authorities in files. `check`, a start,
//! a reload and a renewal report the findings.
//!
//! Decides if a certificate and its key can be served, and predicts if clients will accept the
//! certificate. Trusts the files. Never prevents a reload: it may remove access, which must not
//! wait for a certificate. Never shows a byte of a key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::{
    self, AuthorityFile, Config, Environment, Errors, FileContent, Loaded, Problem, Tls,
};
use crate::control::{Access, IssuerSettings};
use crate::model::{UnixTime, chain};

/// A certificate that cannot be served.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// Not a PEM file of that kind.
    #[error("cannot read `{}`: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The mistake.
        reason: String,
    },
    /// A key that needs a password.
    #[error("the key `{}` is encrypted; remove its password with `openssl pkey -in {}`", .0.display(), .0.display())]
    Encrypted(PathBuf),
    /// The key is not that of the first certificate.
    #[error("the key `{}` does not match the certificate `{}`{hint}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// The remedy, if it is known; begins with a semicolon.
        hint: Box<str>,
        /// The reason that rustls gives.
        source: Box<rustls::Error>,
    },
}

/// A problem with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The weight of the problem.
    pub severity: Severity,
    /// The listener's key in the configuration, and the message.
    pub problem: Problem,
}

/// The weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Clients reject it soon, or on some hosts.
    Warning,
    /// Clients reject it, or it cannot be served.
    Error,
}

/// Loads a configuration as [`config::load`] does, and examines the certificates of its listeners
/// and its authorities.
///
/// # Errors
/// Every mistake in the file. A problem with a certificate is a finding and not an error.
pub fn load(path: &Path, env: &dyn Environment) -> Result<(Loaded, Vec<Finding>), Errors> {
    let loaded = config::load(path, env)?;
    let findings = examine(path, &loaded, env, UnixTime::now());
    Ok((loaded, findings))
}

/// Loads a configuration as [`load`] does, and logs the findings.
pub(super) fn load_and_log(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    let (loaded, findings) = load(path, env)?;
    for Finding { severity, problem } in findings {
        match severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Warning => tracing::warn!("{problem}"),
        }
    }
    Ok(loaded)
}

fn examine(path: &Path, loaded: &Loaded, env: &dyn Environment, now: UnixTime) -> Vec<Finding> {
    let hosts = hosts_of_config(&loaded.config);
    let mut findings = Vec::new();
    for (index, listen) in loaded.config.listen.iter().enumerate() {
        let Some(files) = &listen.tls else { continue };
        let found = match read(files, env) {
            Ok(key) => remarks(&files.certificate, &key.cert, &hosts, now),
            Err(error) => vec![(Severity::Error, chain(&error))],
        };
        let position = loaded.certificates.get(index).copied().flatten();
        let key = format!("listen[{index}].tls.certificate");
        let finding = |(severity, message): (Severity, String)| Finding {
            severity,
            problem: Problem::at_key(path, position, &key, &message),
        };
        findings.extend(found.into_iter().map(finding));
    }
    for AuthorityFile {
        key,
        position,
        path: file,
        certificates,
    } in &loaded.authorities
    {
        let finding = |message: String| Finding {
            severity: Severity::Warning,
            problem: Problem::at_key(path, *position, key, &message),
        };
        findings.extend(
            authority_remarks(file, certificates, now)
                .into_iter()
                .map(finding),
        );
    }
    findings
}

/// Lists the authorities of a file that are expired, not yet valid, or about to expire. They are
/// only warnings: TLS does not check the validity period of a trusted authority.
fn authority_remarks(
    file: &Path,
    certificates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Vec<String> {
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    let remark = |(index, der): (usize, &CertificateDer<'_>)| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let (start, end) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let shown = match certificates.len() {
            1 => format!("the certificate authority `{}`", file.display()),
            _ => format!(
                "the certificate authority {} of `{}`",
                index + 1,
                file.display()
            ),
        };
        if now > end {
            Some(format!("{shown} expired on {}; replace it", date(end)))
        } else if now < start {
            Some(format!("{shown} is valid only from {} on", date(start)))
        } else {
            ends_soon(end, now)
                .map(|when| format!("{shown} expires {when}, on {}; replace it", date(end)))
        }
    };
    let mut remarks: Vec<_> = certificates.iter().enumerate().filter_map(remark).collect();
    let more = remarks.len().saturating_sub(LISTED);
    if more > 0 {
        remarks.truncate(LISTED);
        let file = file.display();
        remarks.push(format!(
            "{more} more certificate authorities of `{file}` have expired, are not valid yet or \
             expire soon"
        ));
    }
    remarks
}

/// Returns the hosts that browsers use; `*` stands for a part of a label.
fn hosts_of_config(config: &Config) -> Vec<String> {
    let team = config
        .catalog
        .team
        .certs_url
        .is_none()
        .then(|| config.catalog.team.domain.as_str());
    let applications = config
        .catalog
        .applications
        .iter()
        .map(|application| application.domain.pattern.host());
    unique(team.into_iter().chain(applications))
}

/// Returns the hosts that browsers use under the running configuration.
pub(super) fn hosts_of(access: &Access) -> Vec<String> {
    let snapshot = access.snapshot();
    let team = match access.running.services().issuer {
        IssuerSettings::Local => Some(snapshot.team().domain.as_str()),
        IssuerSettings::Remote(_) => None,
    };
    let applications = snapshot
        .applications()
        .iter()
        .map(|application| application.settings().domain.host());
    unique(team.into_iter().chain(applications))
}

fn unique<'a>(hosts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut hosts: Vec<_> = hosts.map(str::to_owned).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Reads a pair of files that TLS can serve.
pub(super) fn read(files: &Tls, env: &dyn Environment) -> Result<CertifiedKey, CertificateError> {
    let unreadable = |path: &Path, reason: String| CertificateError::Read {
        path: path.to_owned(),
        reason,
    };
    let content = |path: &Path| {
        env.read(path)
            .map_err(|error| unreadable(path, error.to_string()))
    };
    let (certificate, key) = (content(&files.certificate)?, content(&files.key)?);
    let certificates =
        CertificateDer::pem_slice_iter(pem(&certificate)).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.map_err(|error| unreadable(&files.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable(
            &files.certificate,
            "the file contains no certificate".to_owned(),
        ));
    }
    if key.text.expose().contains("ENCRYPTED") {
        return Err(CertificateError::Encrypted(files.key.clone()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem(&key))
        .map_err(|error| unreadable(&files.key, error.to_string()))?;
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(certificates.clone(), key.clone_key(), &provider).map_err(|source| {
        let fits = |certificate: &CertificateDer<'static>| {
            CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &provider).is_ok()
        };
        let hint = match certificates.iter().position(fits) {
            Some(index) => format!(
                "; the matching certificate is number {} in the file and must be the first",
                index + 1
            ),
            None => String::new(),
        };
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        CertificateError::Mismatch {
            certificate,
            key,
            hint: hint.into(),
            source: Box::new(source),
        }
    })
}

/// Returns the content without a byte order mark, which some editors add.
fn pem(content: &FileContent) -> &[u8] {
    content
        .text
        .expose()
        .trim_start_matches('\u{feff}')
        .as_bytes()
}

/// Returns the end of validity of the first certificate, which is the listener's own.
pub(super) fn not_after(certificates: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let (_, leaf) = X509Certificate::from_der(certificates.first()?).ok()?;
    u64::try_from(leaf.validity().not_after.timestamp())
        .ok()
        .map(UnixTime)
}

/// Lists the problems that clients have with a certificate: its validity, names and issuers.
pub(super) fn remarks(
    file: &Path,
    certificates: &[CertificateDer<'_>],
    hosts: &[String],
    now: UnixTime,
) -> Vec<(Severity, String)> {
    let shown = file.display();
    let mut remarks = Vec::new();
    for (index, der) in certificates.iter().enumerate() {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            let severity = if index == 0 {
                Severity::Error
            } else {
                Severity::Warning
            };
            remarks.push((
                severity,
                format!("certificate {} of `{shown}` is malformed", index + 1),
            ));
            continue;
        };
        remarks.extend(time(&certificate, index, &shown, now));
        if index == 0 {
            remarks.extend(names(der, &certificate, &shown, hosts));
        }
    }
    remarks
}

fn time(
    certificate: &X509Certificate<'_>,
    index: usize,
    file: &impl fmt::Display,
    now: UnixTime,
) -> Option<(Severity, String)> {
    let validity = certificate.validity();
    let (start, end) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let now = i64::try_from(now.0).unwrap_or(i64::MAX);
    if index > 0 {
        let valid = start <= now && now <= end;
        let message = || {
            format!(
                "the intermediate certificate {} of `{file}` is valid from {} to {}; clients may reject the chain",
                index + 1,
                date(start),
                date(end)
            )
        };
        return (!valid).then(|| (Severity::Warning, message()));
    }
    if now > end {
        return Some((
            Severity::Error,
            format!(
                "the certificate `{file}` expired on {}; clients reject it",
                date(end)
            ),
        ));
    }
    if now < start {
        let message = format!(
            "the certificate `{file}` is valid only from {} on; clients reject it",
            date(start)
        );
        return Some((Severity::Error, message));
    }
    ends_soon(end, now).map(|when| {
        (
            Severity::Warning,
            format!(
                "the certificate `{file}` expires {when}, on {}; renew it",
                date(end)
            ),
        )
    })
}

/// Returns the time left until the end of a certificate in words, if the end is near.
fn ends_soon(end: i64, now: i64) -> Option<String> {
    let left = Duration::from_secs(end.saturating_sub(now).unsigned_abs());
    let days = left.as_secs() / 86_400;
    let when = match days {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        _ => format!("in {days} days"),
    };
    (left < WARN_BEFORE).then_some(when)
}

fn names(
    der: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
    file: &impl fmt::Display,
    hosts: &[String],
) -> Option<(Severity, String)> {
    let Ok(parsed) = ParsedCertificate::try_from(der) else {
        return Some((
            Severity::Error,
            format!("the certificate `{file}` is malformed"),
        ));
    };
    let covers = |host: &str| {
        // A sample name for the wildcard that certificates do not list explicitly.
        let name = host.replace('*', "any-name-at-all");
        // Browsers cannot use a host over TLS that cannot be in a certificate.
        ServerName::try_from(name.as_str()).map_or(true, |name| {
            rustls::client::verify_server_name(&parsed, &name).is_ok()
        })
    };
    let missing: Vec<&str> = hosts
        .iter()
        .map(String::as_str)
        .filter(|host| !covers(host))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let listed = certificate.subject_alternative_name().ok().flatten();
    let listed = listed
        .map(|extension| &extension.value.general_names[..])
        .unwrap_or_default();
    let listed: Vec<&str> = listed
        .iter()
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some(*name)
            } else {
                None
            }
        })
        .collect();
    let known = match listed.as_slice() {
        [] => "it lists no host name (subjectAltName)".to_owned(),
        names => format!("it is for {}", list(names)),
    };
    Some((
        Severity::Warning,
        format!(
            "the certificate `{file}` is not valid for {}; {known}",
            list(&missing)
        ),
    ))
}

fn list(names: &[&str]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| "a date that is out of range".to_owned(),
        |at| at.to_string(),
    )
}

/// The time before the end of a certificate in which warnings are logged.
pub(super) const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// The most names of a list in a message.
const LISTED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// The hosts for which a certificate with these names is not valid.
    fn missing<'h>(names: &[&str], hosts: &[&'h str]) -> Vec<&'h str> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let alone = |host: &str| {
            let remarks = remarks(
                Path::new("tls.crt"),
                &[made.cert.der().clone()],
                &[host.to_owned()],
                UnixTime(1_800_000_000),
            );
            assert!(
                remarks
                    .iter()
                    .all(|(severity, _)| *severity == Severity::Warning),
                "{remarks:?}"
            );
            !remarks.is_empty()
        };
        hosts.iter().copied().filter(|host| alone(host)).collect()
    }

    #[test]
    fn wildcards_cover_what_clients_accept() {
        let hosts = [
            "wiki.example.com",
            "*.example.com",
            "app-*.example.com",
            "example.com",
            "a.b.example.com",
            "*.b.example.com",
        ];
        assert_eq!(
            missing(&["*.example.com"], &hosts),
            ["example.com", "a.b.example.com", "*.b.example.com"]
        );
        assert_eq!(
            missing(&["example.com", "*.example.com", "*.b.example.com"], &hosts),
            [""; 0]
        );
        let listed = ["wiki.example.com", "a.b.example.com"];
        assert_eq!(
            missing(&listed, &hosts),
            [
                "*.example.com",
                "app-*.example.com",
                "example.com",
                "*.b.example.com"
            ]
        );
    }

    #[test]
    fn long_lists_are_shortened() {
        let names: Vec<String> = (0..100).map(|i| format!("host{i}.example.com")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(
            list(&names).ends_with("`host4.example.com` and 95 more"),
            "{}",
            list(&names)
        );
    }
}
