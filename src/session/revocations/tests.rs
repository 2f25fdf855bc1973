use super::*;

const NEVER: UnixTime = UnixTime(u64::MAX);

fn nobody() -> UserId {
    UserId("nobody".into())
}

fn len(all: &Revocations) -> usize {
    all.recent.len() + all.settled.as_ref().map_or(0, |settled| settled.len())
}

#[test]
fn each_kind_covers_what_it_says() {
    let (nonce, other) = (IdentityNonce::random(), IdentityNonce::random());
    let (user, aud) = (UserId("u".into()), [Aud::derive(&["a"])]);
    let at = UnixTime(100);
    let mut revocations = Revocations::default();
    assert!(!revocations.cover(Some(nonce), &user, &aud, at));
    revocations.end_session(nonce, NEVER);
    assert!(revocations.cover(Some(nonce), &user, &aud, at));
    assert!(!revocations.cover(Some(other), &user, &aud, at) && !revocations.cover(None, &user, &aud, at));
    revocations.end_user(user.clone(), at, NEVER);
    revocations.end_user(user.clone(), UnixTime(50), NEVER);
    assert!(revocations.cover(None, &user, &aud, at));
    assert!(!revocations.cover(None, &user, &aud, UnixTime(101)));
    assert!(!revocations.cover(None, &UserId("v".into()), &aud, at));
    revocations.end_application(aud[0].clone(), UnixTime(200), NEVER);
    assert!(revocations.cover(None, &UserId("v".into()), &aud, UnixTime(200)));
    assert!(!revocations.cover(None, &UserId("v".into()), &[Aud::derive(&["b"])], at));
}

/// As the control path does it: every logout makes a copy with one more, while the last one is still in use.
#[test]
fn a_hundred_thousand_logouts_copy_little() {
    let mut published = Arc::new(Revocations::default());
    let all: Vec<_> = (0..100_000).map(|_| IdentityNonce::random()).collect();
    let counted = allocation_counter::measure(|| {
        for (i, nonce) in all.iter().enumerate() {
            let mut next = Revocations::clone(&published);
            next.end_session(*nonce, NEVER);
            published = Arc::new(next);
            for seen in [0, i / 2, i] {
                assert!(published.cover(Some(all[seen]), &nobody(), &[], UnixTime(0)), "{seen} of {i}");
            }
        }
    });
    assert_eq!(len(&published), all.len());
    assert!(all.iter().all(|nonce| published.cover(Some(*nonce), &nobody(), &[], UnixTime(0))));
    // Copies of everything each time would be a hundred times as much.
    assert!(counted.bytes_total < 4 << 30, "{} bytes", counted.bytes_total);
}

#[test]
fn what_is_over_is_forgotten_and_nothing_else() {
    let nonces: Vec<_> = (0..1_000).map(|_| IdentityNonce::random()).collect();
    let user = |i: u64| UserId(i.to_string().into());
    let mut all = Revocations::default();
    for (i, nonce) in (0..).zip(&nonces) {
        all.end_session(*nonce, UnixTime(i));
        all.end_user(user(i), UnixTime(7), UnixTime(i));
    }
    all.end_application(Aud::derive(&["a"]), UnixTime(7), UnixTime(400));
    all.end_application(Aud::derive(&["b"]), UnixTime(7), UnixTime(401));
    let before = all.clone();
    for now in [UnixTime(0), UnixTime(400)] {
        assert!(all.are_any_over(now));
        all.forget(now);
        assert!(!all.are_any_over(now), "{now}");
    }
    assert_eq!((len(&all), len(&before)), (2 * 599 + 1, 2 * 1_000 + 2), "those in use are not touched");
    for (i, nonce) in (0..).zip(&nonces) {
        let stays = i > 400;
        assert_eq!(all.cover(Some(*nonce), &nobody(), &[], UnixTime(7)), stays, "{i}");
        assert_eq!(all.cover(None, &user(i), &[], UnixTime(7)), stays, "{i}");
    }
    assert!(all.cover(None, &nobody(), &[Aud::derive(&["b"])], UnixTime(7)));
    assert!(!all.cover(None, &nobody(), &[Aud::derive(&["a"])], UnixTime(7)));
    all.forget(UnixTime(1_000));
    assert_eq!((len(&all), all.settled.is_none()), (0, true));
}

#[test]
fn the_later_end_is_kept_for_the_longer_time() {
    let user = UserId("u".into());
    let mut all = Revocations::default();
    all.end_user(user.clone(), UnixTime(100), UnixTime(900));
    // It settles, and comes again with less.
    (0..1_000).for_each(|_| all.end_session(IdentityNonce::random(), NEVER));
    all.end_user(user.clone(), UnixTime(50), UnixTime(500));
    all.forget(UnixTime(500));
    assert!(all.cover(None, &user, &[], UnixTime(100)));
    (0..1_000).for_each(|_| all.end_session(IdentityNonce::random(), NEVER));
    assert!(all.cover(None, &user, &[], UnixTime(100)));
    all.forget(UnixTime(900));
    assert!(!all.cover(None, &user, &[], UnixTime(0)));
}
