//! The example configuration and its comments.

use super::*;

#[test]
fn example_has_the_defaults() {
    let loaded = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings, []);
    let Config {
        catalog,
        store,
        listen,
        redirects,
        metrics,
        geo,
        outgoing,
        limits,
        server,
        audit,
        insecure,
    } = loaded.config;
    let Catalog {
        team,
        identity_providers,
        applications,
        policies,
        groups,
        lists,
        service_tokens,
        certificates,
    } = catalog;
    assert_eq!(policies, []);
    assert_eq!(
        (lists, geo, service_tokens, certificates),
        (vec![], None, vec![], vec![])
    );
    assert_eq!(outgoing, Outgoing::default());
    assert_eq!(team.url(), "https://access.example.com");
    assert_eq!(
        team.application_url("wiki.example.com"),
        "https://wiki.example.com"
    );
    assert_eq!(
        (team.name.as_str(), team.session_duration),
        ("access.example.com", Duration::from_secs(86_400))
    );
    assert_eq!(
        (team.clock_leeway, team.jwks_max_stale),
        (Duration::from_secs(60), Duration::from_secs(86_400))
    );
    assert_eq!(
        (team.port, team.plain_http, team.certs_url),
        (None, false, None)
    );
    assert_eq!(
        store,
        StoreConfig::Sqlite {
            path: "conf/portcullis.db".into(),
            max_stale: Duration::from_secs(60)
        }
    );
    let tls = Tls {
        certificate: "/etc/portcullis/tls.crt".into(),
        key: "/etc/portcullis/tls.key".into(),
    };
    let address = "0.0.0.0:443".parse().unwrap();
    let serving = Listen {
        address,
        tls: Some(tls),
        trusted_proxies: vec![],
        proxy_protocol: false,
        hsts: None,
    };
    assert_eq!((listen, redirects), (vec![serving], vec![]));
    assert_eq!(metrics, None);
    let [
        IdentityProvider {
            id,
            name,
            kind: IdpKind::Okta(okta),
        },
    ] = identity_providers.as_slice()
    else {
        panic!()
    };
    let ClientCredentials::Secret(secret) = &okta.client.credentials else {
        panic!()
    };
    assert_eq!((id, name.as_str()), (&IdpId("okta".into()), "Okta"));
    assert_eq!(
        (secret.expose(), okta.okta_account.as_str()),
        (HIDDEN, "https://dev-1.okta.com/")
    );
    assert_eq!(groups.len(), 1);
    let seconds = Duration::from_secs;
    let expected = Limits {
        header_bytes: 65_536,
        header_count: 128,
        target_bytes: 16_384,
        max_body: None,
        header_timeout: seconds(10),
        idle_timeout: seconds(75),
        body_timeout: seconds(60),
    };
    assert_eq!(limits, expected);
    assert_eq!(server.lame_duck, seconds(5));
    assert_eq!(
        (server.grace_period, server.sessions_cached),
        (Duration::from_secs(5), 200_000)
    );
    assert!(server.threads > 0 && server.upgrade_socket.is_none() && server.pid_file.is_none());
    assert_eq!((audit.allow_sample, insecure), (0.0, Insecure::default()));
    let [wiki] = applications.as_slice() else {
        panic!()
    };
    assert_eq!(
        (wiki.id.as_str(), wiki.name.as_str()),
        ("wiki.example.com", "Wiki")
    );
    assert_eq!(
        wiki.aud,
        Aud::derive(&["access.example.com", "wiki.example.com"])
    );
    assert_eq!(
        wiki.same_site_cookie_attribute,
        crate::cookie::SameSite::None
    );
    assert!(
        wiki.http_only_cookie_attribute && !wiki.pass_cookies && !wiki.options_preflight_bypass
    );
    assert!(
        wiki.origin_settings.tls_verify
            && wiki.path_cookie_attribute.is_none()
            && wiki.cors_headers.is_none()
    );
    assert_eq!(
        wiki.origins,
        [Origin::parse("http://127.0.0.1:8080").unwrap()]
    );
    let [ApplicationPolicy::Own(policy)] = wiki.policies.as_slice() else {
        panic!()
    };
    assert_eq!(
        (policy.decision, policy.include.len()),
        (PolicyDecision::Allow, 2)
    );
}

/// Every setting in the example's comments exists, and has the default that the comment names.
#[test]
fn comments_of_the_example_have_the_defaults() {
    let setting = |line: &str| {
        let line = line.strip_prefix("# ")?;
        let key = line.split(" = ").next()?;
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let named = key.bytes().all(word) && line.contains(" = ");
        (named || (line.starts_with('[') && line.contains(']'))).then(|| line.to_owned())
    };
    // Each key once: a second example of a key would be a duplicate.
    let skip = [
        "domain = \"access.example.com:8443\"",
        "origin_settings = { ca",
        "origin_settings = { health_check",
        "origin_settings = { upgrades",
        "api_token",
        "groups_",
        "private_key",
        "memory = true",
        "hsts",
    ];
    let text: Vec<String> = EXAMPLE
        .lines()
        .map(|line| {
            setting(line)
                .filter(|l| !skip.iter().any(|s| l.starts_with(s)))
                .unwrap_or_else(|| line.to_owned())
        })
        .collect();
    let loaded = read(&text.join("\n")).unwrap_or_else(|e| panic!("{e}"));
    let plain = read(EXAMPLE).unwrap().config;
    let config = loaded.config;
    assert_eq!(loaded.warnings, []);
    // There is no support by default.
    let team = Organization {
        support: None,
        ..config.catalog.team.clone()
    };
    assert!(config.catalog.team.support.is_some() && plain.catalog.team.support.is_none());
    assert_eq!(
        (&team, &config.store, &config.listen),
        (&plain.catalog.team, &plain.store, &plain.listen)
    );
    assert_eq!(
        (config.audit, config.insecure),
        (plain.audit, plain.insecure)
    );
    assert_eq!(
        Limits {
            max_body: None,
            ..config.limits
        },
        plain.limits
    );
    assert_eq!(config.server.grace_period, plain.server.grace_period);
    assert_eq!(config.server.lame_duck, plain.server.lame_duck);
    assert_eq!(config.server.sessions_cached, plain.server.sessions_cached);
    let (wiki, other) = (
        &config.catalog.applications[0],
        &plain.catalog.applications[0],
    );
    assert_eq!(
        OriginSettings {
            host_header: None,
            ..wiki.origin_settings.clone()
        },
        other.origin_settings
    );
    assert_eq!(
        wiki.same_site_cookie_attribute,
        other.same_site_cookie_attribute
    );
    assert_eq!(wiki.session_duration, other.session_duration);
    let ([token], [authority]) = (
        config.catalog.service_tokens.as_slice(),
        config.catalog.certificates.as_slice(),
    ) else {
        panic!()
    };
    assert!(token.has_secret(&crate::model::SecretDigest::sha256(b"hello")) && token.enabled);
    assert_eq!(
        (
            authority.name.as_str(),
            authority.roots.len(),
            authority.hosts.len()
        ),
        ("Devices", 1, 2)
    );
    assert_eq!(wiki.max_body, Some(10 << 20));
    let ApplicationPolicy::Own(policy) = &wiki.policies[0] else {
        panic!()
    };
    assert_eq!(policy.session_duration, Some(Duration::from_secs(3600)));
}
