use super::*;

const NEVER: UnixTime = UnixTime(u64::MAX);

fn stranger() -> UserId {
    UserId("stranger".into())
}

/// Returns `true` if the token of a login without a revision is covered.
fn covers(
    all: &Revocations,
    nonce: Option<IdentityNonce>,
    user: &UserId,
    aud: &[Aud],
    issued: UnixTime,
) -> bool {
    let login = Some(LoginOrder {
        revision: 0,
        at: issued,
    });
    match all.cover(Presented {
        nonce,
        user,
        aud,
        issued,
        login,
    }) {
        Truth::True => true,
        Truth::False => false,
        Truth::Unknown => panic!("the order of the login is known"),
    }
}

fn len(all: &Revocations) -> usize {
    all.recent.len() + all.settled.as_ref().map_or(0, |settled| settled.len())
}

#[test]
fn each_kind_of_revocation_covers_its_own_tokens() {
    let (nonce, other) = (IdentityNonce::random(), IdentityNonce::random());
    let (user, aud) = (UserId("u".into()), [Aud::derive(&["a"])]);
    let at = UnixTime(100);
    let mut revocations = Revocations::default();
    assert!(!covers(&revocations, Some(nonce), &user, &aud, at));
    revocations.end_session(nonce, NEVER);
    assert!(covers(&revocations, Some(nonce), &user, &aud, at));
    assert!(
        !covers(&revocations, Some(other), &user, &aud, at)
            && !covers(&revocations, None, &user, &aud, at)
    );
    revocations.end_user(user.clone(), Until::Second(at), NEVER);
    revocations.end_user(user.clone(), Until::Second(UnixTime(50)), NEVER);
    assert!(covers(&revocations, None, &user, &aud, at));
    assert!(!covers(&revocations, None, &user, &aud, UnixTime(101)));
    assert!(!covers(&revocations, None, &UserId("v".into()), &aud, at));
    revocations.end_application(aud[0].clone(), UnixTime(200), NEVER);
    assert!(covers(
        &revocations,
        None,
        &UserId("v".into()),
        &aud,
        UnixTime(200)
    ));
    assert!(!covers(
        &revocations,
        None,
        &UserId("v".into()),
        &[Aud::derive(&["b"])],
        at
    ));
}

/// Like the control path: each logout copies the set and adds one entry.
#[test]
fn hundred_thousand_logouts_copy_little() {
    let mut published = Arc::new(Revocations::default());
    let all: Vec<_> = (0..100_000).map(|_| IdentityNonce::random()).collect();
    let counted = allocation_counter::measure(|| {
        for (i, nonce) in all.iter().enumerate() {
            let mut next = Revocations::clone(&published);
            next.end_session(*nonce, NEVER);
            published = Arc::new(next);
            for seen in [0, i / 2, i] {
                assert!(
                    covers(&published, Some(all[seen]), &stranger(), &[], UnixTime(0)),
                    "{seen} of {i}"
                );
            }
        }
    });
    assert_eq!(len(&published), all.len());
    assert!(all.iter().all(|nonce| covers(
        &published,
        Some(*nonce),
        &stranger(),
        &[],
        UnixTime(0)
    )));
    // Copies of everything each time would be a hundred times as much.
    assert!(
        counted.bytes_total < 4 << 30,
        "{} bytes",
        counted.bytes_total
    );
}

#[test]
fn only_past_revocations_are_forgotten() {
    let nonces: Vec<_> = (0..1_000).map(|_| IdentityNonce::random()).collect();
    let user = |i: u64| UserId(i.to_string().into());
    let mut all = Revocations::default();
    for (i, nonce) in (0..).zip(&nonces) {
        all.end_session(*nonce, UnixTime(i));
        all.end_user(user(i), Until::Second(UnixTime(7)), UnixTime(i));
    }
    all.end_application(Aud::derive(&["a"]), UnixTime(7), UnixTime(400));
    all.end_application(Aud::derive(&["b"]), UnixTime(7), UnixTime(401));
    let before = all.clone();
    for now in [UnixTime(0), UnixTime(400)] {
        assert!(all.are_any_over(now));
        all.forget(now);
        assert!(!all.are_any_over(now), "{now}");
    }
    assert_eq!(
        (len(&all), len(&before)),
        (2 * 599 + 1, 2 * 1_000 + 2),
        "those in use are not touched"
    );
    for (i, nonce) in (0..).zip(&nonces) {
        let stays = i > 400;
        assert_eq!(
            covers(&all, Some(*nonce), &stranger(), &[], UnixTime(7)),
            stays,
            "{i}"
        );
        assert_eq!(covers(&all, None, &user(i), &[], UnixTime(7)), stays, "{i}");
    }
    assert!(covers(
        &all,
        None,
        &stranger(),
        &[Aud::derive(&["b"])],
        UnixTime(7)
    ));
    assert!(!covers(
        &all,
        None,
        &stranger(),
        &[Aud::derive(&["a"])],
        UnixTime(7)
    ));
    all.forget(UnixTime(1_000));
    assert_eq!((len(&all), all.settled.is_none()), (0, true));
}

#[test]
fn later_revocation_is_kept_for_the_longer_time() {
    let user = UserId("u".into());
    let mut all = Revocations::default();
    all.end_user(user.clone(), Until::Second(UnixTime(100)), UnixTime(900));
    // It settles, and comes again with less.
    (0..1_000).for_each(|_| all.end_session(IdentityNonce::random(), NEVER));
    all.end_user(user.clone(), Until::Second(UnixTime(50)), UnixTime(500));
    all.forget(UnixTime(500));
    assert!(covers(&all, None, &user, &[], UnixTime(100)));
    (0..1_000).for_each(|_| all.end_session(IdentityNonce::random(), NEVER));
    assert!(covers(&all, None, &user, &[], UnixTime(100)));
    all.forget(UnixTime(900));
    assert!(!covers(&all, None, &user, &[], UnixTime(0)));
}

fn token(user: &UserId, issued: u64, login: Option<(u64, u64)>) -> Presented<'_> {
    let login = login.map(|(revision, at)| LoginOrder {
        revision,
        at: UnixTime(at),
    });
    Presented {
        nonce: None,
        user,
        aud: &[],
        issued: UnixTime(issued),
        login,
    }
}

#[test]
fn revision_of_the_login_decides_and_no_clock() {
    let user = UserId("u".into());
    let mut all = Revocations::default();
    all.end_user(user.clone(), Until::Revision(7), NEVER);
    for issued in [0, 100, u64::MAX] {
        for (revision, covered) in [
            (0, Truth::True),
            (6, Truth::True),
            (7, Truth::False),
            (8, Truth::False),
        ] {
            assert_eq!(
                all.cover(token(&user, issued, Some((revision, issued)))),
                covered,
                "{revision} {issued}"
            );
        }
        assert_eq!(all.cover(token(&user, issued, None)), Truth::Unknown);
        assert_eq!(
            all.cover(token(&stranger(), issued, None)),
            Truth::False,
            "another user's"
        );
    }
}

#[test]
fn revocation_of_an_earlier_release_covers_its_logins_by_time() {
    let user = UserId("u".into());
    let mut all = Revocations::default();
    all.end_user(user.clone(), Until::Second(UnixTime(100)), NEVER);
    let cover = |issued, login| all.cover(token(&user, issued, Some(login)));
    assert_eq!(cover(100, (0, 100)), Truth::True);
    assert_eq!(
        cover(500, (0, 100)),
        Truth::True,
        "a token that was issued later comes of the same login"
    );
    assert_eq!(
        cover(100, (0, 500)),
        Truth::True,
        "a token from before the login was repeated"
    );
    assert_eq!(cover(101, (0, 101)), Truth::False);
    assert_eq!(
        cover(50, (1, 50)),
        Truth::False,
        "this release made the login after the revocation"
    );
}

#[test]
fn pending_revocation_covers_every_login_until_it_has_an_order() {
    let user = UserId("u".into());
    let mut all = Revocations::default();
    all.set_pending([user.clone()]);
    assert_eq!(all.cover(token(&user, 1, Some((u64::MAX, 1)))), Truth::True);
    assert_eq!(all.cover(token(&user, 1, None)), Truth::True);
    assert_eq!(all.cover(token(&stranger(), 1, Some((0, 1)))), Truth::False);
    all.set_pending([]);
    assert_eq!(all.cover(token(&user, 1, Some((0, 1)))), Truth::False);
}
