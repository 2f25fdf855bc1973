//! A browser without a screen: follows redirects, keeps cookies as browsers do, fills in the
//! sign-in form, and sends `Sec-Fetch-*` headers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cookie::{Cookie, SameSite};
use rustls::ClientConfig;
use url::Url;

use super::okta::PASSWORD;
use super::portcullis::Portcullis;
use super::raw::{Connection, Response};

const MAX_HOPS: usize = 25;

/// A browser. Every host but an IP address is the proxy.
#[derive(Clone)]
pub struct Browser {
    proxy: SocketAddr,
    elsewhere: Vec<(String, SocketAddr)>,
    trust: Arc<ClientConfig>,
    /// Every cookie it holds.
    pub cookies: Vec<Kept>,
    /// The last navigation: each request with the status it got.
    pub trail: Vec<(Url, u16)>,
    /// The status of the answer to the last form from another site.
    pub posted: Option<u16>,
    /// Every cookie value it was ever given.
    pub given: Vec<String>,
}

/// A cookie that the browser holds.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The host that it is for, or the domain.
    pub host: String,
    /// `true` if it is for all hosts of that domain. Only other sites set such cookies.
    pub is_domain: bool,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    path: String,
    secure: bool,
    same_site: SameSite,
    expires: Option<i64>,
}

/// The end of a navigation.
#[derive(Debug, Clone)]
pub struct Page {
    /// The URL at which the navigation ended.
    pub url: Url,
    /// The response at that URL.
    pub response: Response,
}

impl Browser {
    /// A fresh browser.
    pub fn new(proxy: &Portcullis) -> Self {
        Self::at(proxy.address, proxy.trust("http/1.1"))
    }

    /// A fresh browser for which every name leads to `proxy`.
    pub fn at(proxy: SocketAddr, trust: Arc<ClientConfig>) -> Self {
        Self {
            proxy,
            elsewhere: Vec::new(),
            trust,
            cookies: Vec::new(),
            trail: Vec::new(),
            posted: None,
            given: Vec::new(),
        }
    }

    /// Resolves a name to another proxy.
    pub fn leads_to(&mut self, host: &str, address: SocketAddr) {
        self.elsewhere.push((host.to_owned(), address));
    }

    /// Opens a page as if its address had been typed, and follows redirects to their end.
    pub async fn open(&mut self, url: &str) -> Page {
        self.navigate("GET", url, "", |_| false).await
    }

    /// Opens a page, which must be answered with 200 and without another URL.
    pub async fn assert_opens(&mut self, url: &str) -> Page {
        self.assert_opens_in(url, "").await
    }

    /// The same in one case of several.
    pub async fn assert_opens_in(&mut self, url: &str, case: &str) -> Page {
        let page = self.open(url).await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (url, 200),
            "{case} {:#?}",
            self.trail
        );
        page
    }

    /// Opens a page until it has that status.
    pub async fn until_status(&mut self, url: &str, status: u16, why: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.get(url).await;
            if answer.status == status {
                return;
            }
            assert!(Instant::now() < deadline, "{why}: still {}", answer.status);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Opens a page and follows redirects until one leads to `stop`, which is not followed but
    /// returned.
    pub async fn open_until(&mut self, url: &str, stop: &str) -> Url {
        self.navigate("GET", url, "", |url| url.as_str().starts_with(stop))
            .await
            .url
    }

    /// Sends a form of a page of the same site, and follows redirects to their end.
    pub async fn post(&mut self, url: &str, form: &str) -> Page {
        self.navigate("POST", url, form, |_| false).await
    }

    /// Sends a form from a page of another site, and follows redirects to their end. Only cookies
    /// with `SameSite=None` are sent.
    pub async fn post_from_elsewhere(&mut self, url: &str, form: &str) -> Page {
        let page = self.posted(url, form).await;
        match page.response.status {
            302 | 303 => self.open(page.response.location()).await,
            _ => page,
        }
    }

    /// The same, until a redirect leads to `stop`, which is not followed but returned.
    pub async fn post_until(&mut self, url: &str, form: &str, stop: &str) -> Url {
        let page = self.posted(url, form).await;
        self.open_until(page.response.location(), stop).await
    }

    async fn posted(&mut self, url: &str, form: &str) -> Page {
        let url = Url::parse(url).unwrap();
        let others = self.clone();
        self.cookies
            .retain(|cookie| cookie.same_site == SameSite::None);
        let cookies = self.cookies_for(&url, true);
        self.cookies = others.cookies;
        let lines = [
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
            "Content-Type: application/x-www-form-urlencoded",
        ];
        let response = self
            .send("POST", &url, &lines, &cookies, form.as_bytes())
            .await;
        self.trail = vec![(url.clone(), response.status)];
        self.posted = Some(response.status);
        Page { url, response }
    }

    /// Opens a page, and signs in as `login` if there is a sign-in form.
    pub async fn open_as(&mut self, url: &str, login: &str) -> Page {
        let page = self.open(url).await;
        self.sign_in(&page, login).await
    }

    /// Signs in at a page of `okta.mjs`; any other page is returned.
    pub async fn sign_in(&mut self, page: &Page, login: &str) -> Page {
        let Some(action) = sign_in_form(&page.response.text()) else {
            return page.clone();
        };
        let action = page.url.join(&action).unwrap();
        let fields = [("identifier", login), ("passcode", PASSWORD)];
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.navigate("POST", action.as_str(), &form, |_| false)
            .await
    }

    async fn navigate(
        &mut self,
        method: &str,
        url: &str,
        form: &str,
        stop: impl Fn(&Url) -> bool,
    ) -> Page {
        let (mut method, mut form) = (method.to_owned(), form.to_owned());
        let mut url = Url::parse(url).unwrap();
        let (mut start, mut crossed) = (url.clone(), false);
        self.trail.clear();
        while self.trail.len() < MAX_HOPS {
            crossed |= url.host() != start.host();
            let site = if crossed {
                "Sec-Fetch-Site: cross-site"
            } else {
                "Sec-Fetch-Site: none"
            };
            let mut lines = vec![
                site,
                "Sec-Fetch-Mode: navigate",
                "Sec-Fetch-Dest: document",
                "Sec-Fetch-User: ?1",
                "Accept: text/html,application/xhtml+xml,*/*;q=0.8",
            ];
            if method == "POST" {
                lines.push("Content-Type: application/x-www-form-urlencoded");
            }
            let cookies = self.cookies_for(&url, crossed);
            let response = self
                .send(&method, &url, &lines, &cookies, form.as_bytes())
                .await;
            self.trail.push((url.clone(), response.status));
            let target = if matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                response.location().to_owned()
            } else if let Some(target) = refresh(&response.text()) {
                // From here on it is this page that leads on.
                (start, crossed) = (url.clone(), false);
                target
            } else {
                return Page { url, response };
            };
            if !matches!(response.status, 307 | 308) {
                (method, form) = ("GET".to_owned(), String::new());
            }
            url = url.join(&target).unwrap();
            if stop(&url) {
                return Page { url, response };
            }
        }
        panic!("a loop: {:#?}", self.trail)
    }

    /// One request with this browser's cookies, as a script on the same host makes it. No redirect
    /// is followed.
    pub async fn fetch(
        &mut self,
        method: &str,
        url: &str,
        lines: &[&str],
        body: &[u8],
    ) -> Response {
        let mut all = vec![
            "Sec-Fetch-Site: same-origin",
            "Sec-Fetch-Mode: cors",
            "Sec-Fetch-Dest: empty",
            "Accept: */*",
        ];
        all.extend(lines);
        self.request(method, url, &all, body).await
    }

    /// One `GET` of [`Browser::fetch`] without further header lines.
    pub async fn get(&mut self, url: &str) -> Response {
        self.fetch("GET", url, &[], b"").await
    }

    /// One request with this browser's cookies and just these header lines. No redirect is
    /// followed.
    pub async fn request(
        &mut self,
        method: &str,
        url: &str,
        lines: &[&str],
        body: &[u8],
    ) -> Response {
        let url = Url::parse(url).unwrap();
        let cookies = self.cookies_for(&url, false);
        self.send(method, &url, lines, &cookies, body).await
    }

    async fn send(
        &mut self,
        method: &str,
        url: &Url,
        lines: &[&str],
        cookies: &str,
        body: &[u8],
    ) -> Response {
        let host = url.host_str().unwrap();
        let mut connection = match (host.parse::<std::net::IpAddr>(), url.scheme()) {
            (Ok(ip), "http") => {
                Connection::plain(SocketAddr::new(ip, url.port_or_known_default().unwrap())).await
            }
            (Err(_), "http") => {
                let elsewhere = self
                    .elsewhere
                    .iter()
                    .find(|(name, _)| name == host)
                    .map(|(_, address)| *address);
                Connection::plain(elsewhere.unwrap_or(self.proxy)).await
            }
            (Err(_), "https") => Connection::tls(self.proxy, host, &self.trust).await,
            _ => panic!("sent to `{url}`"),
        };
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
        for line in lines {
            head += &format!("{line}\r\n");
        }
        if !cookies.is_empty() {
            head += &format!("Cookie: {cookies}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        connection
            .send([head.as_bytes(), b"\r\n", body].concat())
            .await;
        let response = connection
            .response(method)
            .await
            .unwrap_or_else(|| panic!("no answer to {method} {url}"));
        for line in response.headers.all("set-cookie") {
            self.keep(url, line);
        }
        response
    }

    /// The `Cookie` line for `url`; `crossed` when another site led here. All requests made so are
    /// `GET`s at top level or same-site, so only `Strict` is held back.
    pub fn cookies_for(&self, url: &Url, crossed: bool) -> String {
        let now = super::idp::now();
        let matching = self.cookies.iter().filter(|c| {
            is_for(c, url.host_str().unwrap_or_default())
                && path_matches(url.path(), &c.path)
                && (!c.secure || trustworthy(url))
                && (!crossed || c.same_site != SameSite::Strict)
                && c.expires.is_none_or(|at| at > now)
        });
        // RFC 6265 5.4 (2): longer paths first.
        let mut matching: Vec<_> = matching.collect();
        matching.sort_by_key(|c| std::cmp::Reverse(c.path.len()));
        matching
            .iter()
            .map(|c| format!("{}={}", c.name, c.value))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Takes a cookie that another host of `domain` set for all of its hosts.
    pub fn toss(&mut self, domain: &str, path: &str, name: &str, value: &str) {
        let (host, name, value, path) = (
            domain.to_owned(),
            name.to_owned(),
            value.to_owned(),
            path.to_owned(),
        );
        let same_site = SameSite::None;
        self.cookies.push(Kept {
            host,
            is_domain: true,
            name,
            value,
            path,
            secure: true,
            same_site,
            expires: None,
        });
    }

    fn keep(&mut self, url: &Url, line: &str) {
        let parsed = Cookie::parse(line.to_owned()).unwrap_or_else(|e| panic!("{e}: `{line}`"));
        if url.host_str() != Some("127.0.0.1") {
            let is_removal =
                parsed.value().is_empty() && parsed.max_age().is_some_and(|age| age.is_zero());
            assert!(
                parsed.domain().is_none() || is_removal,
                "a `Domain` cookie from {url}: `{line}`"
            );
        }
        let secure = parsed.secure().unwrap_or(false);
        let same_site = parsed.same_site().unwrap_or(SameSite::Lax);
        let host_prefixed = parsed.name().starts_with("__Host-");
        let refused = (secure && !trustworthy(url))
            || (same_site == SameSite::None && !secure)
            || (host_prefixed && !(secure && parsed.path() == Some("/")));
        assert!(!refused, "browsers refuse this cookie from {url}: `{line}`");
        let is_domain = parsed.domain().is_some();
        let host = parsed
            .domain()
            .unwrap_or(url.host_str().unwrap())
            .to_owned();
        let path = parsed
            .path()
            .map_or_else(|| default_path(url), str::to_owned);
        let (name, value) = (parsed.name().to_owned(), parsed.value().to_owned());
        self.cookies.retain(|c| {
            (&c.host, c.is_domain, &c.name, &c.path) != (&host, is_domain, &name, &path)
        });
        let max_age = parsed
            .max_age()
            .map(|age| super::idp::now() + age.whole_seconds());
        let expires = max_age.or_else(|| Some(parsed.expires_datetime()?.unix_timestamp()));
        if expires.is_none_or(|at| at > super::idp::now()) {
            self.given.push(value.clone());
            self.cookies.push(Kept {
                host,
                is_domain,
                name,
                value,
                path,
                secure,
                same_site,
                expires,
            });
        }
    }

    /// The value of a cookie that it holds.
    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        self.cookies
            .iter()
            .find(|c| c.host == host && c.name == name)
            .map(|c| c.value.as_str())
    }
}

/// As browsers see it: loopback names are as good as TLS.
fn trustworthy(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https"
        || host == "localhost"
        || host.ends_with(".localhost")
        || host == "127.0.0.1"
}

/// RFC 6265, section 5.1.3.
fn is_for(cookie: &Kept, host: &str) -> bool {
    let below = || {
        host.strip_suffix(&cookie.host)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    host == cookie.host || cookie.is_domain && below()
}

/// RFC 6265, section 5.1.4.
fn path_matches(path: &str, cookie: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie.ends_with('/'))
}

fn default_path(url: &Url) -> String {
    match url.path().rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
    }
}

/// Returns the target of a page that forwards the browser by itself.
fn refresh(html: &str) -> Option<String> {
    let content = html
        .split(r#"<meta http-equiv="refresh" content="0;url="#)
        .nth(1)?
        .split('"')
        .next()?;
    Some(unescaped(content))
}

/// Returns the action of the sign-in form of `okta.mjs`, if this is that page.
fn sign_in_form(html: &str) -> Option<String> {
    let form = &html[html.find(r#"<form id="signin""#)?..];
    let action = form.split(r#"action=""#).nth(1)?.split('"').next()?;
    Some(action.to_owned())
}

/// Returns the target of the first link or form with `text` in its text.
pub fn link(html: &str, text: &str) -> Option<String> {
    let end = html.find(text)?;
    let before = &html[..end];
    let (start, attribute) = before
        .rfind("<a ")
        .map(|at| (at, r#"href=""#))
        .max(before.rfind("<form ").map(|at| (at, r#"action=""#)))?;
    let target = before[start..].split(attribute).nth(1)?.split('"').next()?;
    Some(unescaped(target))
}

fn unescaped(attribute: &str) -> String {
    attribute
        .replace("&amp;", "&")
        .replace("&#38;", "&")
        .replace("&#x26;", "&")
}
