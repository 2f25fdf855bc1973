use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::{self, CertificateError, Severity, WARN_BEFORE};
use crate::config::{System, Tls};
use crate::control::{Access, Background};
use crate::model::{UnixTime, chain};
use crate::observe::metrics::metrics;

/// Returns the certificate of a listener. It is reloaded when its files change, so a renewal needs
/// no restart.
pub(super) fn resolver(
    files: &Tls,
    access: Weak<Access>,
    background: &Background,
) -> Result<Arc<dyn ResolvesServerCert>, CertificateError> {
    let current = Arc::new(Current(ArcSwap::from_pointee(certificates::read(
        files, &System,
    )?)));
    measure(files, &current);
    background.spawn(
        "certificates",
        follow(Arc::downgrade(&current), files.clone(), access),
    );
    Ok(current)
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The remaining validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Good,
    Ending,
    Expired,
}

impl Stage {
    fn of(current: &Current, now: UnixTime) -> Self {
        match certificates::not_after(&current.0.load().cert) {
            Some(end) if now > end => Self::Expired,
            Some(end) if now.after(WARN_BEFORE) > end => Self::Ending,
            _ => Self::Good,
        }
    }
}

fn measure(files: &Tls, current: &Current) {
    if let Some(end) = certificates::not_after(&current.0.load().cert) {
        metrics().certificate_not_after(&files.certificate.display().to_string(), end);
    }
}

/// Serves renewed files, and logs problems with the certificate when it changes and when it is
/// about to expire.
async fn follow(current: Weak<Current>, files: Tls, access: Weak<Access>) {
    let contents = |files: &Tls| {
        (
            std::fs::read(&files.certificate).ok(),
            std::fs::read(&files.key).ok(),
        )
    };
    let mut seen = contents(&files);
    let mut stage = current
        .upgrade()
        .map(|current| Stage::of(&current, UnixTime::now()));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (Some(current), Some(access)) = (current.upgrade(), access.upgrade()) else {
            return;
        };
        let found = contents(&files);
        let mut renewed = false;
        if found != seen {
            seen = found;
            match certificates::read(&files, &System) {
                Ok(key) => {
                    // Certificate and key change together: new handshakes use both, and open
                    // connections keep the old ones.
                    current.0.store(Arc::new(key));
                    measure(&files, &current);
                    renewed = true;
                    tracing::info!(certificate = %files.certificate.display(), "reloaded the certificate");
                }
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "cannot reload the certificate; the previous one stays in use"
                    )
                }
            }
        }
        let now = UnixTime::now();
        let next = Some(Stage::of(&current, now));
        if renewed || next != stage {
            stage = next;
            let hosts = certificates::hosts_of(&access);
            for (severity, message) in
                certificates::remarks(&files.certificate, &current.0.load().cert, &hosts, now)
            {
                match severity {
                    Severity::Error => tracing::error!("{message}"),
                    Severity::Warning => tracing::warn!("{message}"),
                }
            }
        }
    }
}

/// The time until a renewed certificate is noticed.
// Renewals replace files hours before the old certificate ends. Polling also works on network file
// systems.
const LOOK_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::runtime::{Handle, Runtime};

    use super::*;
    use crate::control::Vital;

    fn files(folder: &std::path::Path) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["wiki.example.com".to_owned()]).unwrap();
        let files = Tls {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[tokio::test]
    async fn follower_that_ends_on_its_own_is_reported() {
        let (folder, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let (vital, mut ended) = Vital::new();
        let background = Background::new(runtime.handle().clone(), vital);
        let resolver = resolver(&files(folder.path()), Weak::new(), &background).unwrap();
        assert!(ended.try_recv().is_err());
        runtime.shutdown_background();
        assert_eq!(ended.recv().await, Some("certificates"));
        drop(resolver);
    }

    #[tokio::test(start_paused = true)]
    async fn follower_of_a_listener_that_is_gone_ends_without_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let (vital, mut ended) = Vital::new();
        let background = Background::new(Handle::current(), vital);
        drop(resolver(&files(folder.path()), Weak::new(), &background).unwrap());
        drop(background);
        assert_eq!(ended.recv().await, None);
    }
}
