use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::digest;
use http::HeaderValue;
use pingora::utils::tls::WrappedX509;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{Application, Config, OriginScheme};
use crate::control::{Background, OriginSource};
use crate::engine::Origins;
use crate::front::pingora::{Check, OriginContext, OriginPool, PoolSettings, Protocol, Target, Trust};

/// A pool for each application, of the origins that the configuration names. One whose settings stay the same is kept over
/// a reload, with what it knows of names and health. Nothing here waits for the network.
#[derive(Debug, Default)]
pub(super) struct Pools {
    kept: Mutex<HashMap<String, Arc<OriginPool>>>,
    context: OriginContext,
}

#[async_trait]
impl OriginSource for Pools {
    async fn origins(&self, config: &Config, background: &Background) -> HashMap<String, Origins> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut pools = HashMap::new();
        for application in &config.applications {
            let settings = settings(config, application);
            let pool = match kept.get(&application.id) {
                Some(pool) if *pool.settings() == settings => Arc::clone(pool),
                _ => OriginPool::start(settings, &self.context, background),
            };
            pools.insert(application.id.clone(), pool);
        }
        let origins = pools.iter().map(|(id, pool)| (id.clone(), Origins::new(Arc::clone(pool)))).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        origins
    }
}

/// Certificate authorities as Pingora's peers take them. Where one cannot be read there, none is trusted: the system's must
/// not stand in for those that were named.
fn trust(application: &str, certificates: &[CertificateDer<'_>]) -> Trust {
    let read = |certificate: &CertificateDer<'_>| {
        WrappedX509::try_new(certificate.to_vec(), |raw| X509Certificate::from_der(raw).map(|(_, read)| read))
    };
    let authorities = certificates.iter().map(read).collect::<Result<Arc<[_]>, _>>().unwrap_or_else(|error| {
        tracing::error!(application, %error, "a certificate authority of its origins cannot be used: they are not trusted");
        Arc::default()
    });
    let mut content = digest::Context::new(&digest::SHA256);
    for certificate in certificates {
        content.update(certificate);
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(content.finish().as_ref());
    Trust::new(authorities, fingerprint)
}

fn settings(config: &Config, application: &Application) -> PoolSettings {
    let origin = &application.origin_settings;
    let target = |o: &crate::config::Origin| Target {
        host: o.host.clone(),
        port: o.port,
        protocol: match o.scheme {
            OriginScheme::Http => Protocol::Http,
            OriginScheme::Https => Protocol::Https,
            OriginScheme::H2c => Protocol::H2c,
            OriginScheme::H2 => Protocol::H2,
        },
    };
    PoolSettings {
        application: application.name.clone(),
        targets: application.origins.iter().map(target).collect(),
        connect_timeout: origin.connect_timeout,
        read_timeout: origin.read_timeout,
        idle_timeout: origin.idle_timeout,
        tunnel_timeout: origin.tunnel_timeout,
        upgrades: origin.upgrades.clone(),
        host_header: origin.host_header.as_deref().and_then(|host| HeaderValue::try_from(host).ok()),
        tls_verify: origin.tls_verify,
        tls_server_name: origin.tls_server_name.clone(),
        trust: origin.ca.as_deref().map(|certificates| trust(&application.name, certificates)),
        health_check: origin.health_check.as_ref().map(|check| Check {
            path: check.path.as_deref().and_then(|path| path.parse().ok()),
            interval: check.interval,
            expect: check.expect.clone(),
        }),
        max_body: application.max_body.or(config.limits.max_body),
    }
}
