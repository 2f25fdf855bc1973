use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::node::Value;
use super::reader::{Item, Table};
use crate::policy::IpRange;

/// The store of everything that must survive a restart (`[store]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// A SQLite file; `portcullis.db` beside the configuration file by default.
    Sqlite {
        /// The file, which is created if it is missing.
        path: PathBuf,
        /// The time for which sessions are accepted while the file cannot be read for revocations;
        /// 60 s by default, from 10 s to 24 h.
        max_stale: Duration,
    },
    /// No store on disk: everything is lost at a restart. Needs `[insecure] memory_store`.
    Memory,
}

/// A listener (`[[listen]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// The certificate; `None` only with `[insecure] plain_http`.
    pub tls: Option<Tls>,
    /// The proxies that may send `X-Forwarded-For`; none by default.
    pub trusted_proxies: Vec<IpNet>,
    /// Requires a PROXY protocol header, version 1 or 2, from one of `trusted_proxies` at the start
    /// of each connection. The address in it is the client's, and `X-Forwarded-For` is ignored.
    pub proxy_protocol: bool,
    /// The `Strict-Transport-Security` header of every response (RFC 6797 6.1); not sent by
    /// default.
    pub hsts: Option<Hsts>,
}

/// A listener that redirects plain HTTP to HTTPS and serves nothing else (`[[listen]]` with
/// `redirect_to_https`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectListener {
    /// Address and port.
    pub address: SocketAddr,
    /// The proxies that may send a PROXY protocol header.
    pub trusted_proxies: Vec<IpNet>,
    /// Requires a PROXY protocol header, as for [`Listen`].
    pub proxy_protocol: bool,
    /// The folder with the responses to HTTP-01 challenges, one file per token (RFC 8555 8.3).
    pub acme_challenges: Option<PathBuf>,
}

/// HTTP Strict Transport Security (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// The time in which browsers use HTTPS only; a year by default, from 0 (browsers forget it) to
    /// ten years.
    pub max_age: Duration,
    /// Covers the subdomains of each host too. Off by default: it breaks subdomains that have no
    /// HTTPS.
    pub include_subdomains: bool,
}

/// A certificate and its key, both in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The limits of requests (`[limits]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of all header fields of a request, in bytes; 64 KiB by default, from 8 KiB to 1
    /// MiB.
    pub header_bytes: u64,
    /// The number of header fields of a request; 128 by default, at most 256.
    pub header_count: u64,
    /// The request target, in bytes; 16 KiB by default.
    pub target_bytes: u64,
    /// The body, in bytes, for applications that set no `max_body` of their own; unlimited by
    /// default.
    pub max_body: Option<u64>,
    /// The time for the TLS handshake, and for the head of a request; 10 s by default.
    pub header_timeout: Duration,
    /// The time that a connection without a request stays open; 75 s by default.
    pub idle_timeout: Duration,
    /// The longest gap in the body of a request; 60 s by default.
    pub body_timeout: Duration,
}

/// The settings of the process (`[server]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The number of worker threads; the number of cores by default.
    pub threads: usize,
    /// The time for requests in flight at shutdown; 5 s by default.
    pub grace_period: Duration,
    /// The time in which `/readyz` fails at shutdown while connections are still accepted; 5 s by
    /// default.
    pub lame_duck: Duration,
    /// The number of verified sessions in memory; 200,000 by default.
    pub sessions_cached: u64,
    /// The socket over which an upgraded process receives the listeners; beside the store by
    /// default. Every process that can write to its folder can receive them too.
    pub upgrade_socket: Option<PathBuf>,
    /// The file for the process id; none by default.
    pub pid_file: Option<PathBuf>,
}

/// The content of the audit log (`[audit]`). It always has logins, logouts and refusals.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The share of allowed requests that is logged: from 0, the default, for none, to 1 for all.
    pub allow_sample: f64,
    /// Logs groups, authentication methods and claims with each login. On by default; `portcullis
    /// diff --audit` needs it.
    pub identity: bool,
}

/// The switches that weaken a check (`[insecure]`). All are off by default, and each one that is on
/// is a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insecure {
    /// Allows listeners without TLS.
    pub plain_http: bool,
    /// Allows secrets in the configuration file.
    pub inline_secrets: bool,
    /// Allows identity providers, a remote team's keys and evaluation services on plain HTTP.
    pub insecure_identity_providers: bool,
    /// Allows applications to skip the verification of origin certificates.
    pub origin_tls_unverified: bool,
    /// Allows a store in memory.
    pub memory_store: bool,
}

impl Insecure {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let mut switch = |key, weakens: &str| {
            let on = table.flag(key, false);
            if let (true, Some(item)) = (on, table.item(key)) {
                item.warn(&format!("this is on: {weakens}"));
            }
            on
        };
        Self {
            plain_http: switch(
                "plain_http",
                "pages, cookies and tokens may cross the network unencrypted",
            ),
            inline_secrets: switch(
                "inline_secrets",
                "users who can read this file may find secrets in it",
            ),
            insecure_identity_providers: switch(
                "insecure_identity_providers",
                "an attacker on the network to an identity provider or evaluation service on plain HTTP can log in as any user",
            ),
            origin_tls_unverified: switch(
                "origin_tls_unverified",
                "applications may send requests to an origin that they have not authenticated",
            ),
            memory_store: switch(
                "memory_store",
                "a restart may end every session and replace every key",
            ),
        }
    }
}

impl StoreConfig {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure) -> Self {
        let path = table.item("path");
        let (seconds, hours) = (Duration::from_secs, |hours: u64| {
            Duration::from_secs(hours * 3600)
        });
        let max_stale = table.duration("max_stale", seconds(60), seconds(10)..=hours(24));
        let memory = table.flag("memory", false);
        if !memory {
            let path = path
                .as_ref()
                .and_then(Item::text)
                .unwrap_or("portcullis.db");
            return Self::Sqlite {
                path: table.reader().resolve(path),
                max_stale,
            };
        }
        if let Some(item) = table.item("max_stale") {
            item.error("a store in memory is always available; remove this");
        }
        if let Some(item) = table.item("memory") {
            if path.is_some() {
                item.error("a store is either in memory or at a path; remove one of the two");
            } else if !insecure.memory_store {
                item.error("a restart would sign every user out; remove this, or set `memory_store = true` under `[insecure]`");
            }
        }
        Self::Memory
    }
}

/// A `[[listen]]` of either kind: it serves applications, or redirects to HTTPS.
pub(super) enum Listener {
    Serving(Listen),
    Redirecting(RedirectListener),
}

impl Listener {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        if table.flag("redirect_to_https", false) {
            return RedirectListener::read(table).map(Self::Redirecting);
        }
        table.foreign(&[(
            "acme_challenges",
            "challenges are served by a listener with `redirect_to_https = true`",
        )]);
        Listen::read(table, insecure).map(Self::Serving)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        match self {
            Self::Serving(listen) => listen.address,
            Self::Redirecting(redirect) => redirect.address,
        }
    }
}

impl RedirectListener {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        table.foreign(&[
            ("tls", "a listener with `redirect_to_https` is for plain HTTP; remove one of the two"),
            ("hsts", "browsers ignore it on plain HTTP (RFC 6797 8.1); set it on the listener with `tls`"),
        ]);
        let address = table
            .needed("address", "\"0.0.0.0:80\"")
            .and_then(|item| item.parse(socket_address));
        let (trusted_proxies, proxy_protocol) = proxies(table);
        let acme_challenges = table.item("acme_challenges").and_then(|item| {
            let folder = item.reader().resolve(item.text()?);
            if !item.reader().env().is_offline() && !folder.is_dir() {
                item.error(&format!(
                    "`{}` is not a directory; create it, or correct the path",
                    folder.display()
                ));
            }
            Some(folder)
        });
        Some(Self {
            address: address?,
            trusted_proxies,
            proxy_protocol,
            acme_challenges,
        })
    }
}

/// Reads `trusted_proxies` and `proxy_protocol`.
fn proxies(table: &mut Table<'_>) -> (Vec<IpNet>, bool) {
    let list = table.list("trusted_proxies");
    let trusted: Vec<IpNet> = list.iter().filter_map(|item| item.parse(proxy)).collect();
    let proxy_protocol = table.flag("proxy_protocol", false);
    if let (true, true, Some(item)) = (
        proxy_protocol,
        list.is_empty(),
        table.item("proxy_protocol"),
    ) {
        item.error("no peer may send the header; name the load balancers in `trusted_proxies`");
    }
    (trusted, proxy_protocol)
}

impl Hsts {
    fn read(table: &mut Table<'_>) -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let max_age = table.duration(
            "max_age",
            hours(365 * 24),
            Duration::ZERO..=hours(3650 * 24),
        );
        Self {
            max_age,
            include_subdomains: table.flag("include_subdomains", false),
        }
    }
}

impl Listen {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        let address = table
            .needed("address", "\"0.0.0.0:443\"")
            .and_then(|item| item.parse(socket_address));
        let tls = table.item("tls");
        if tls.is_none() && !insecure.plain_http {
            table.reader().error(
                table.place(),
                "this listener has no certificate; add `tls = { certificate = \"…\", key = \"…\" }` (or set \
                 `plain_http = true` under `[insecure]`)",
            );
        }
        let hsts = table.item("hsts").and_then(|item| {
            if tls.is_none() {
                item.error("browsers ignore it on plain HTTP (RFC 6797 8.1); set it on a listener with `tls`");
            }
            item.table(Hsts::read)
        });
        let tls = tls.and_then(|item| item.table(Tls::read).flatten());
        let (trusted_proxies, proxy_protocol) = proxies(table);
        Some(Self {
            address: address?,
            tls,
            trusted_proxies,
            proxy_protocol,
            hsts,
        })
    }
}

impl Tls {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let certificate =
            table.pem_file("certificate", "-----BEGIN CERTIFICATE-----", "certificate");
        let key = table.pem_file("key", "PRIVATE KEY-----", "private key");
        Some(Self {
            certificate: certificate?,
            key: key?,
        })
    }
}

impl Limits {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            header_timeout: table.duration(
                "header_timeout",
                seconds(10),
                seconds(1)..=seconds(300),
            ),
            idle_timeout: table.duration("idle_timeout", seconds(75), seconds(1)..=seconds(3600)),
            body_timeout: table.duration("body_timeout", seconds(60), seconds(1)..=seconds(3600)),
            header_bytes: table
                .size("header_bytes", 8 * 1024..=1024 * 1024)
                .unwrap_or(64 * 1024),
            header_count: table.number("header_count", 128, 16..=256),
            target_bytes: table
                .size("target_bytes", 1024..=64 * 1024)
                .unwrap_or(16 * 1024),
            max_body: table.size("max_body", 0..=u64::MAX),
        }
    }
}

impl ServerSettings {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = table.number("threads", cores as u64, 1..=1024);
        let (zero, hour) = (Duration::ZERO, Duration::from_secs(3600));
        let grace_period = table.duration("grace_period", Duration::from_secs(5), zero..=hour);
        let lame_duck = table.duration("lame_duck", Duration::from_secs(5), zero..=hour);
        let sessions_cached = table.number("sessions_cached", 200_000, 1_000..=100_000_000);
        let mut path = |key| {
            table
                .item(key)
                .and_then(|item| item.text().map(|path| item.reader().resolve(path)))
        };
        Self {
            threads: usize::try_from(threads).unwrap_or(cores),
            grace_period,
            lame_duck,
            sessions_cached,
            upgrade_socket: path("upgrade_socket"),
            pid_file: path("pid_file"),
        }
    }
}

impl Audit {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let allow_sample = table
            .item("allow_sample")
            .and_then(|item| share(&item))
            .unwrap_or(0.0);
        Self {
            allow_sample,
            identity: table.flag("identity", true),
        }
    }
}

pub(super) fn metrics(table: &mut Table<'_>, taken: &[SocketAddr]) -> Option<SocketAddr> {
    let item = table.needed("address", "\"127.0.0.1:9090\"")?;
    let address = item.parse(socket_address)?;
    if taken.contains(&address) {
        item.error(&format!(
            "`{address}` already serves applications; metrics need an address of their own"
        ));
    }
    Some(address)
}

fn share(item: &Item<'_>) -> Option<f64> {
    let number = match item.node().value() {
        Value::Integer(number) => number.get::<u32>().map(f64::from),
        Value::Float(number) => Some(*number),
        _ => {
            item.wrong_type("a number from 0 (none) to 1 (all)");
            return None;
        }
    };
    let share = number.filter(|n| (0.0..=1.0).contains(n));
    if share.is_none() {
        item.error("this must be a number from 0 (none) to 1 (all)");
    }
    share
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(format!("`{text}` has port 0; write the port to listen on")),
            _ => Ok(address),
        };
    }
    let instead = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok_and(|p| p != 0) => match host {
            "" | "*" => format!("; write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6 as well"),
            "localhost" => format!("; write `127.0.0.1:{port}`"),
            _ if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("; write `[{host}]:{port}`"),
            _ => String::new(),
        },
        _ if text.parse::<IpAddr>().is_ok() => "; add a port".to_owned(),
        _ => String::new(),
    };
    Err(format!(
        "`{text}` is not an IP address with a port, like `127.0.0.1:8080`{instead}"
    ))
}

fn proxy(text: &str) -> Result<IpNet, String> {
    let net = IpRange::try_from(text.to_owned())?.net();
    match net.prefix_len() {
        0 => Err(format!(
            "`{text}` contains every address: any client could forge its own; name the proxies in front"
        )),
        _ => Ok(net),
    }
}
