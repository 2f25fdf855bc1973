//! Clocks that are ahead, behind, or reach the end of a session.

use super::*;
use crate::control::ManualClock;

#[tokio::test]
async fn session_is_rejected_once_the_clock_reaches_its_end() {
    let manual = ManualClock::new(UnixTime::now());
    let clock = Clock::from(Arc::clone(&manual));
    let access = process_with_clock(Arc::new(MemoryStore::new()), clock).await;
    let login = log_in(&access, None).await;
    let token = token(&access, &login, access.running.now()).await.unwrap();
    assert!(is_allowed(&access, &token).await);
    manual.advance(std::time::Duration::from_secs(3599));
    // The revocations are too old by then.
    follow(&access).await;
    assert!(is_allowed(&access, &token).await, "a second before its end");
    manual.advance(std::time::Duration::from_secs(1));
    assert!(!is_allowed(&access, &token).await);
}

#[tokio::test]
async fn prune_with_a_clock_ahead_deletes_nothing_valid() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(store).await;
        let (ended, login) = (log_in(&access, None).await, log_in(&access, None).await);
        let dead = token(&access, &ended, UnixTime::now()).await.unwrap();
        access
            .endpoints
            .logins
            .revoker
            .revoke_login(ended.nonce, UnixTime::now())
            .await
            .unwrap();
        let good = token(&access, &login, UnixTime::now()).await.unwrap();
        let ahead = UnixTime::now().after(std::time::Duration::from_secs(62 * 24 * 3600));
        access.upkeep.prune(ahead).await;
        access.running.cache().forget_identity(&login.nonce);
        access.upkeep.prune(UnixTime::now()).await;
        assert!(
            !is_allowed(&access, &dead).await,
            "a revoked session stays revoked"
        );
        assert!(is_allowed(&access, &good).await, "no identity is lost");
    }
}

#[tokio::test]
async fn revocation_by_a_slow_clock_outlives_the_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(Arc::clone(&store)).await;
        let behind = UnixTime(UnixTime::now().0 - 100 * 24 * 3600);
        let (first, second) = (log_in(&access, None).await, log_in(&access, None).await);
        access
            .endpoints
            .logins
            .revoker
            .revoke_login(first.nonce, behind)
            .await
            .unwrap();
        access
            .endpoints
            .logins
            .revoker
            .revoke_even_if_store_fails(second.nonce, &second.identity, behind)
            .await;
        let token = token(&access, &second, UnixTime::now()).await;
        access.upkeep.prune(UnixTime::now()).await;
        let left = store.revocations_after(0).await.unwrap();
        assert_eq!(left.len(), 3, "{left:?}");
        let until = UnixTime::now().after(std::time::Duration::from_secs(60 * 24 * 3600));
        assert!(
            left.iter().all(|revoked| revoked.expires > until),
            "{left:?}"
        );
        assert!(token.is_none());
    }
}
