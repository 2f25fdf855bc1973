use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::upkeep::Upkeep;
use super::{Access, Vital, signing_keys};

/// The background tasks of the control path. Dropping this ends them.
#[derive(Debug)]
pub struct Tasks(#[expect(dead_code, reason = "dropping it ends the tasks")] JoinSet<()>);

impl Tasks {
    /// Starts the tasks on the current runtime. `vital` reports a task that ends by itself.
    pub fn spawn(access: &Arc<Access>, vital: &Vital) -> Self {
        let upkeep = &access.upkeep;
        let mut tasks = JoinSet::new();
        tasks.spawn(every(FOLLOW_EVERY, upkeep, |upkeep| async move {
            upkeep.follow_changes().await
        }));
        tasks.spawn(every(KEYS_EVERY, upkeep, |upkeep| async move {
            upkeep.issuer.keep_keys_fresh().await
        }));
        tasks.spawn(every(COUNTRIES_EVERY, upkeep, |upkeep| async move {
            upkeep.check_countries().await
        }));
        tasks.spawn(every(PRUNE_EVERY, upkeep, |upkeep| async move {
            upkeep.prune(upkeep.running.now()).await
        }));
        tasks.spawn(every(WATCH_EVERY, upkeep, |upkeep| async move {
            upkeep.store.check_health().await
        }));
        tasks.spawn(Arc::clone(&upkeep.identities).keep_groups_fresh());
        tasks.spawn(Arc::clone(&upkeep.identities).expire_groups_at_bound());
        let mut supervisor = JoinSet::new();
        let running = vital.watch("control");
        supervisor.spawn(async move {
            // Each task is an endless loop, so the first that ends has panicked.
            let _running = running;
            tasks.join_next().await;
        });
        Self(supervisor)
    }
}

fn every<F: Future<Output = ()> + Send>(
    period: Duration,
    upkeep: &Arc<Upkeep>,
    work: impl Fn(Arc<Upkeep>) -> F + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let upkeep = Arc::clone(upkeep);
    async move {
        loop {
            work(Arc::clone(&upkeep)).await;
            tokio::time::sleep(period).await;
        }
    }
}

/// The longest time until another process's logout or change takes effect here.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// The period of both the rotation of our own keys and the fetch of a remote team's.
const KEYS_EVERY: Duration = signing_keys::CHECK_EVERY;
/// The time until a new country database is used.
const COUNTRIES_EVERY: Duration = Duration::from_secs(10);
/// The time until it is noticed that the store accepts writes again. A failure is noticed within
/// half a minute.
const WATCH_EVERY: Duration = Duration::from_secs(10);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
