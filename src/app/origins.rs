use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use aws_lc_rs::digest;
use http::HeaderValue;
use pingora::utils::tls::WrappedX509;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::{Application, Config, OriginScheme};
use crate::control::{Background, OriginSource};
use crate::engine::Origins;
use crate::front::pingora::{
    Check, OriginContext, OriginPool, PoolSettings, Protocol, Target, Trust,
};

/// The origin pools of the applications. A reload keeps a pool with unchanged settings, including
/// its resolved addresses and health. Never waits for the network.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// Pools by the application's id. Only a running configuration keeps them alive: those of a
    /// rejected one end with it.
    started: Mutex<Vec<(String, Weak<OriginPool>)>>,
    context: OriginContext,
}

#[async_trait]
impl OriginSource for Pools {
    async fn origins(&self, config: &Config, background: &Background) -> HashMap<String, Origins> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|(_, pool)| pool.strong_count() > 0);
        let mut origins = HashMap::new();
        for application in &config.catalog.applications {
            let settings = settings(config, application);
            let of_application = started.iter().filter(|(id, _)| *id == application.id);
            let kept = of_application
                .filter_map(|(_, pool)| pool.upgrade())
                .find(|pool| *pool.settings() == settings);
            let pool = kept.unwrap_or_else(|| {
                let pool = OriginPool::start(settings, &self.context, background);
                started.push((application.id.clone(), Arc::downgrade(&pool)));
                pool
            });
            origins.insert(application.id.clone(), Origins::new(pool));
        }
        origins
    }
}

/// Returns the authorities in the form that Pingora's peers require. If one is malformed, none is
/// trusted: the system's authorities must not replace the configured ones.
fn trust(application: &str, certificates: &[CertificateDer<'_>]) -> Trust {
    let read = |certificate: &CertificateDer<'_>| {
        WrappedX509::try_new(certificate.to_vec(), |raw| {
            X509Certificate::from_der(raw).map(|(_, read)| read)
        })
    };
    let authorities = certificates.iter().map(read).collect::<Result<Arc<[_]>, _>>().unwrap_or_else(|error| {
        tracing::error!(application, %error, "cannot use a certificate authority of the application's origins; no authority is trusted for them");
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
        host_header: origin
            .host_header
            .as_deref()
            .and_then(|host| HeaderValue::try_from(host).ok()),
        tls_verify: origin.tls_verify,
        tls_server_name: origin.tls_server_name.clone(),
        trust: origin
            .ca
            .as_deref()
            .map(|certificates| trust(&application.name, certificates)),
        health_check: origin.health_check.as_ref().map(|check| Check {
            path: check.path.as_deref().and_then(|path| path.parse().ok()),
            interval: check.interval,
            expect: check.expect.clone(),
        }),
        max_body: application.max_body.or(config.limits.max_body),
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use crate::control::Vital;
    use std::path::Path;

    use super::*;
    use crate::config::{self, System};

    const CONFIG: &str = r#"
        [insecure]
        plain_http = true
        inline_secrets = true
        memory_store = true
        [[listen]]
        address = "127.0.0.1:8080"
        [team]
        domain = "access.localhost:8080"
        [[identity_providers]]
        id = "okta"
        name = "Okta"
        type = "okta"
        config = { client_id = "id", client_secret = "example-secret", okta_account = "https://dev-1.okta.com" }
        [[applications]]
        domain = "app.localhost"
        origin = "http://127.0.0.1:9"
        [[applications.policies]]
        name = "all"
        decision = "allow"
        include = [{ everyone = {} }]
    "#;

    async fn pool(pools: &Pools, text: &str) -> Arc<OriginPool> {
        let config = config::parse(text, Path::new("portcullis.toml"), &System)
            .unwrap_or_else(|e| panic!("{e}"))
            .config;
        let mut made = pools
            .origins(&config, &Background::new(Handle::current(), Vital::new().0))
            .await;
        assert_eq!(made.len(), 1);
        let origins = made.drain().next().unwrap().1;
        Arc::clone(origins.get::<Arc<OriginPool>>().unwrap())
    }

    #[tokio::test]
    async fn pool_in_use_is_kept_over_a_rejected_reload() {
        let pools = Pools::default();
        let running = pool(&pools, CONFIG).await;
        assert!(Arc::ptr_eq(&running, &pool(&pools, CONFIG).await));
        let changed = CONFIG.replace("127.0.0.1:9\"", "127.0.0.1:10\"");
        // Nothing uses the pool of a rejected configuration.
        let rejected = Arc::downgrade(&pool(&pools, &changed).await);
        assert!(rejected.upgrade().is_none(), "its pool ends");
        assert!(
            Arc::ptr_eq(&running, &pool(&pools, CONFIG).await),
            "with its addresses and health"
        );
        let replaced = pool(&pools, &changed).await;
        assert!(!Arc::ptr_eq(&running, &replaced));
        drop(running);
        assert!(Arc::ptr_eq(&replaced, &pool(&pools, &changed).await));
    }
}
