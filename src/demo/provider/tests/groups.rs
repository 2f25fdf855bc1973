//! Groups, in the claim and from the API.

use super::*;

#[test]
fn groups_claim_is_cut_at_a_hundred_and_omitted_if_empty() {
    let provider = provider();
    let carol = provider.userinfo_of("carol");
    let groups = carol["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 100);
    assert!(!groups.contains(&"Vault keepers".into()));
    assert!(provider.userinfo_of("zed").get("groups").is_none());
    assert_eq!(provider.userinfo_of("una")["email_verified"], false);
}

/// Returns the names on a page of the groups API, and the URL of the next page.
fn page(response: &Response<Bytes>) -> (Vec<String>, Option<String>) {
    assert_eq!(response.status(), StatusCode::OK, "{}", body(response));
    let groups: Vec<Value> = serde_json::from_slice(response.body()).unwrap();
    let names = groups
        .iter()
        .map(|group| group["profile"]["name"].as_str().unwrap().to_owned())
        .collect();
    let links: Vec<_> = response
        .headers()
        .get_all("link")
        .iter()
        .map(|link| link.to_str().unwrap())
        .collect();
    assert!(
        links.iter().any(|link| link.ends_with(">; rel=\"self\"")),
        "{links:?}"
    );
    let next = links
        .iter()
        .find_map(|link| link.strip_suffix(">; rel=\"next\""));
    (
        names,
        next.map(|link| {
            link.strip_prefix('<')
                .unwrap()
                .strip_prefix(ISSUER)
                .unwrap()
                .to_owned()
        }),
    )
}

#[test]
fn groups_api_returns_all_groups_in_pages() {
    let provider = provider();
    let token = provider.api_token();
    let carol = User::by_login("carol").unwrap();
    let all: Vec<_> = carol.groups().into_iter().map(|group| group.name).collect();
    let target = format!("/api/v1/users/{}/groups", carol.subject());
    for (limit, pages) in [
        ("", 1),
        ("?limit=200", 1),
        ("?limit=1000", 1),
        ("?limit=150", 1),
        ("?limit=100", 2),
        ("?limit=7", 22),
    ] {
        let (mut seen, mut turned, mut next) = (Vec::new(), 0, Some(format!("{target}{limit}")));
        while let Some(target) = next {
            assert!(turned < 30);
            let (names, following) = page(&provider.get(&target, Some(&token), NOW));
            seen.extend(names);
            turned += 1;
            next = following;
        }
        assert_eq!((turned, &seen), (pages, &all), "{limit}");
    }
    let zed = format!(
        "/api/v1/users/{}/groups",
        User::by_login("zed").unwrap().subject()
    );
    assert_eq!(
        page(&provider.get(&zed, Some(&token), NOW)),
        (Vec::new(), None)
    );
}

#[test]
fn groups_api_reports_errors_as_okta_does() {
    let provider = provider();
    let token = provider.api_token();
    let target = format!("/api/v1/users/{}/groups", USERS[0].subject());
    let bearer = token.replace("SSWS", "Bearer");
    for wrong in [
        None,
        Some("SSWS wrong"),
        Some("SSWS"),
        Some(bearer.as_str()),
    ] {
        let response = provider.get(&target, wrong, NOW);
        assert_eq!(
            (response.status().as_u16(), &read(&response)["errorCode"]),
            (401, &"E0000011".into())
        );
    }
    for (target, status, code) in [
        ("/api/v1/users/00unobody/groups".to_owned(), 404, "E0000007"),
        (format!("{target}?limit=0"), 400, "E0000001"),
        (format!("{target}?limit=-1"), 400, "E0000001"),
        (format!("{target}?after=00gnone"), 400, "E0000001"),
        (format!("{target}?limit=1&limit=2"), 400, "E0000001"),
    ] {
        let response = provider.get(&target, Some(&token), NOW);
        assert_eq!(
            (response.status().as_u16(), &read(&response)["errorCode"]),
            (status, &code.into()),
            "{target}"
        );
    }
    assert_eq!(
        provider.get("/api/v1/users", Some(&token), NOW).status(),
        StatusCode::NOT_FOUND
    );
}
