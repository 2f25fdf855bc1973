//! Names that may be used once per team, with two processes on one store.

use std::net::SocketAddr;

use crate::support::{Browser, Person, Portcullis, World};

const WIKI: &str = "http://wiki.localhost/page";
const CALLBACK: &str = "http://access.localhost/cdn-cgi/access/callback";
const AUTHORIZED: &str = "http://wiki.localhost/cdn-cgi/access/authorized";

/// Another process on the store of a world, and a browser there that is sent to sign in as Alice.
pub(super) async fn two_processes() -> (World, Portcullis, Browser) {
    let world = World::start().await;
    let mut config = world.proxy.config.clone();
    config.store_path = Some(world.proxy.path("portcullis.db"));
    let other = Portcullis::start(config).await;
    world.idp.script(|script| script.person = Person::alice());
    let browser = world.browser();
    (world, other, browser)
}

/// A copy of the browser for which the team and the application are at that address.
pub(super) fn at(browser: &Browser, address: SocketAddr) -> Browser {
    let mut copy = browser.clone();
    for host in ["access.localhost", "wiki.localhost"] {
        copy.leads_to(host, address);
    }
    copy
}

#[tokio::test]
async fn login_flow_is_used_up_at_every_process() {
    let (world, other, mut here) = two_processes().await;
    let callback = here.open_until(WIKI, CALLBACK).await;
    let mut there = at(&here, other.address);
    assert_eq!(
        here.open(callback.as_str()).await.response.status,
        200,
        "{:#?}",
        here.trail
    );
    let codes = world.idp.count("/oauth2/v1/token");
    let late = there.open(callback.as_str()).await;
    assert_eq!(late.response.status, 400, "{:#?}", there.trail);
    assert!(
        late.response.text().contains("login_expired"),
        "{}",
        late.response.text()
    );
    assert_eq!(
        world.idp.count("/oauth2/v1/token"),
        codes,
        "the code is not sent a second time"
    );
}

#[tokio::test]
async fn login_may_end_at_another_process() {
    let (_world, other, mut here) = two_processes().await;
    let callback = here.open_until(WIKI, CALLBACK).await;
    let mut there = at(&here, other.address);
    assert_eq!(
        there.open(callback.as_str()).await.response.status,
        200,
        "{:#?}",
        there.trail
    );
}

#[tokio::test]
async fn hand_over_is_used_up_at_every_process() {
    let (_world, other, mut here) = two_processes().await;
    let authorized = here.open_until(WIKI, AUTHORIZED).await;
    let mut there = at(&here, other.address);
    let granted = here.get(authorized.as_str()).await;
    assert_eq!(
        (
            granted.status,
            here.cookie("wiki.localhost", "CF_Authorization").is_some()
        ),
        (302, true)
    );
    let refused = there.get(authorized.as_str()).await;
    assert_eq!(
        (refused.status, refused.headers.one("location")),
        (302, Some(WIKI))
    );
    assert_eq!(there.cookie("wiki.localhost", "CF_Authorization"), None);
}
