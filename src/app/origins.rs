use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::HeaderValue;
use tokio::runtime::Handle;

use crate::config::{Application, Config, OriginScheme};
use crate::control::OriginSource;
use crate::engine::Origins;
use crate::front::pingora::{Check, OriginPool, PoolSettings, Protocol, Target};

/// A pool for each application, of the origins that the configuration names. One whose settings stay the same is kept over
/// a reload, with what it knows of names and health.
#[derive(Debug, Default)]
pub(super) struct Pools(Mutex<HashMap<String, Arc<OriginPool>>>);

#[async_trait]
impl OriginSource for Pools {
    async fn origins(&self, config: &Config, runtime: &Handle) -> HashMap<String, Origins> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut pools = HashMap::new();
        for application in &config.applications {
            let settings = settings(config, application);
            let pool = match kept.get(&application.id) {
                Some(pool) if *pool.settings() == settings => Arc::clone(pool),
                _ => OriginPool::start(settings, runtime).await,
            };
            pools.insert(application.id.clone(), pool);
        }
        let origins = pools.iter().map(|(id, pool)| (id.clone(), Origins::new(Arc::clone(pool)))).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        origins
    }
}

/// The authorities that origins' certificates are checked against, where they are not the system's.
pub(super) fn ca_file(config: &Config) -> Option<&Path> {
    config.applications.iter().find_map(|a| a.origin_settings.ca.as_deref())
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
        targets: application.origins.iter().map(target).collect(),
        connect_timeout: origin.connect_timeout,
        read_timeout: origin.read_timeout,
        idle_timeout: origin.idle_timeout,
        host_header: origin.host_header.as_deref().and_then(|host| HeaderValue::try_from(host).ok()),
        tls_verify: origin.tls_verify,
        health_check: origin.health_check.as_ref().map(|check| Check {
            path: check.path.as_deref().and_then(|path| path.parse().ok()),
            interval: check.interval,
        }),
        max_body: application.max_body.or(config.limits.max_body),
    }
}
