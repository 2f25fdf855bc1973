//! Inputs that broke real products of this kind, by family: `p` paths and rules, `h` identity and
//! forwarding headers, `r` redirects and the login flow, `j` tokens, `s` sessions and cookies, `t`
//! transport. The number after the letter is the case's in its family's list, which has gaps.
//! Whatever happens, the recording origin must not hear of it.

mod flow;
mod forwarding;
mod hand_over;
mod paths;
mod provider;
mod requests;
mod sessions;
mod tokens;
mod tossed;
mod transport;

use crate::support::{Browser, Person, Response, World, assert_refused, raw};

const APP: &str = "http://app.localhost";

/// A member without further rights, who is logged in at `app.localhost`.
async fn member(world: &World) -> Browser {
    world
        .signed_in(Person::bob(), "http://app.localhost/")
        .await
}

/// The `Cookie` line of a browser for `app.localhost`.
fn cookie_line(browser: &Browser) -> String {
    format!(
        "Cookie: CF_Authorization={}",
        browser.cookie("app.localhost", "CF_Authorization").unwrap()
    )
}

/// Sends a request for `/` of `app.localhost` as a script does, with that `Cookie` line.
async fn by_script(world: &World, cookies: &str) -> Option<Response> {
    let lines = [cookies, "Sec-Fetch-Mode: cors"];
    world
        .raw(raw::request("GET", "app.localhost", "/", &lines))
        .await
}

/// Sends a target to `app.localhost` over HTTP/2 and returns the status. `None` if the stream was
/// reset, or if the client's library cannot send the target unchanged: it drops fragments, and some
/// targets do not parse.
async fn over_http2(world: &World, target: &[u8], cookie: Option<&str>) -> Option<u16> {
    let path = http::uri::PathAndQuery::try_from(target)
        .ok()
        .filter(|path| path.as_str().as_bytes() == target)?;
    let uri = http::Uri::builder()
        .scheme("http")
        .authority("app.localhost")
        .path_and_query(path)
        .build()
        .ok()?;
    let mut request = http::Request::get(uri);
    if let Some((name, value)) = cookie.and_then(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let mut connection = raw::Connection2::plain(world.proxy.address).await;
    let answer = connection
        .request(request.body(()).unwrap(), b"")
        .await
        .ok()?;
    Some(answer.head.status.as_u16())
}

/// Sends each target to `app.localhost` over HTTP/1.1 and HTTP/2, without a session and as a member
/// without access to `/admin`. None may arrive.
async fn refused_everywhere(targets: &[&str]) {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for target in targets {
        for lines in [&[][..], &[cookie.as_str()]] {
            let answer = world
                .raw(raw::request("GET", "app.localhost", target, lines))
                .await;
            assert_refused(answer.as_ref(), target);
            let status = over_http2(&world, target.as_bytes(), lines.first().copied()).await;
            assert!(
                status.is_none_or(|status| matches!(status, 302 | 400 | 403)),
                "{target} over HTTP/2: {status:?}"
            );
            world.origin.assert_untouched(target);
        }
    }
}

/// Sends each target with a member's session over HTTP/1.1 and HTTP/2: 400, and nothing may arrive.
async fn malformed(targets: &[&[u8]]) {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for target in targets {
        let name = String::from_utf8_lossy(target).into_owned();
        let tail =
            format!(" HTTP/1.1\r\nHost: app.localhost\r\n{cookie}\r\nConnection: close\r\n\r\n");
        let request = [b"GET ".as_slice(), target, tail.as_bytes()].concat();
        let answer = world.raw(request).await;
        assert!(
            answer.as_ref().is_none_or(|a| a.status == 400),
            "{name}: {answer:?}"
        );
        let status = over_http2(&world, target, Some(&cookie)).await;
        assert!(
            status.is_none_or(|status| status == 400),
            "{name} over HTTP/2: {status:?}"
        );
        world.origin.assert_untouched(&name);
    }
}

/// Sends each target with a member's session over HTTP/1.1 and HTTP/2: it must arrive as it is.
/// Without one, nothing may arrive.
async fn forwarded_as_sent(targets: &[&str]) {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for target in targets {
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[]))
            .await;
        assert_refused(answer.as_ref(), target);
        world.origin.assert_untouched(target);
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[&cookie]))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(world.origin.last().target, *target);
        world.origin.forget();
        let status = over_http2(&world, target.as_bytes(), Some(&cookie)).await;
        assert_eq!(
            (status, world.origin.last().target.as_str()),
            (Some(200), *target),
            "over HTTP/2"
        );
        world.origin.forget();
        let status = over_http2(&world, target.as_bytes(), None).await;
        assert_eq!(status, Some(302), "{target} over HTTP/2 without a session");
        world.origin.assert_untouched(target);
    }
}
