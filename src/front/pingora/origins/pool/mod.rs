//! The origins of one application: selection, alternatives and temporary exclusion.
//!
//! Decides the address of each attempt of a request. Trusts the health checks and the results of
//! connection attempts. Never excludes an origin because of its responses, which clients could
//! provoke, and never excludes the last one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pingora::prelude::{Error, HttpPeer};
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpUpstreamRequestPolicy;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::health::{self, Checks};
use super::names::{Name, Names};
use super::{PoolSettings, Protocol, Target, Trust, failure};
use crate::control::Background;

/// State that the pools of all applications share. It survives a reload, and so do the addresses of
/// known hosts.
#[derive(Debug, Default)]
pub struct OriginContext {
    names: Names,
    checks: Arc<Checks>,
}

/// The origins of one application. Requests take turns between those that are healthy and
/// reachable.
pub struct OriginPool {
    members: Box<[Member]>,
    settings: PoolSettings,
    turn: AtomicUsize,
    started: Instant,
    names_ended: watch::Receiver<()>,
}

/// One configured origin. Its addresses are alternatives that are tried in turn, not separate
/// servers.
#[derive(Debug)]
pub(super) struct Member {
    /// Host and port, as configured.
    label: Box<str>,
    name: Arc<Name>,
    port: u16,
    /// A peer with everything but the address.
    template: HttpPeer,
    /// The index of the address that worked last.
    preferred: AtomicUsize,
    healthy: AtomicBool,
    /// The time until which other members are preferred, in milliseconds since the start of the
    /// pool; 0 if this member is not set aside.
    set_aside_until: AtomicU64,
}

/// The attempts of one request.
#[derive(Debug, Default)]
pub(in crate::front::pingora) struct Attempts {
    current: Option<(usize, SocketAddr)>,
    /// Addresses of the current member that failed.
    addresses: SmallVec<[IpAddr; 2]>,
    /// Members that failed at every address.
    members: SmallVec<[usize; 2]>,
    /// `true` if an attempt ended before the request was sent, for a reason that does not concern
    /// the origin.
    repeated: bool,
}

impl Attempts {
    /// Returns the address of the last attempt.
    pub(in crate::front::pingora) fn address(&self) -> Option<SocketAddr> {
        self.current.map(|(_, address)| address)
    }
}

impl OriginPool {
    /// Creates a pool. While it exists, its names are resolved and its members are checked in the
    /// background.
    pub fn start(
        settings: PoolSettings,
        context: &OriginContext,
        background: &Background,
    ) -> Arc<Self> {
        let member = |target: &Target| {
            Member::new(
                target,
                &settings,
                context.names.get(&target.host, background),
            )
        };
        let pool = Arc::new(Self {
            members: settings.targets.iter().map(member).collect(),
            settings,
            turn: AtomicUsize::new(0),
            started: Instant::now(),
            names_ended: context.names.ended(),
        });
        if let Some(check) = pool.settings.health_check.clone() {
            let checks = health::follow(Arc::downgrade(&pool), check, Arc::clone(&context.checks));
            background.spawn("health checks", checks);
        }
        pool
    }

    /// Returns the settings of the pool.
    pub const fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    pub(super) const fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the configured name of the origin of the last attempt.
    pub(in crate::front::pingora) fn label(&self, attempts: &Attempts) -> Option<&str> {
        let (index, _) = attempts.current?;
        self.members.get(index).map(|member| &*member.label)
    }

    /// Waits for the first lookups of names, until a member has an address; for `connect_timeout` at
    /// most.
    pub(in crate::front::pingora) async fn resolved(&self) {
        let mut ended = self.names_ended.clone();
        let resolved = async {
            loop {
                ended.mark_unchanged();
                let usable = self.members.iter().any(Member::is_usable);
                if usable
                    || !self.members.iter().any(|member| member.name.is_pending())
                    || ended.changed().await.is_err()
                {
                    return;
                }
            }
        };
        // `next` then uses the known addresses, whether or not the time was sufficient.
        let _ = tokio::time::timeout(self.settings.connect_timeout, resolved).await;
    }

    /// Returns the peer for a request's next attempt; `None` if no member is healthy and has an
    /// address.
    pub(in crate::front::pingora) fn next(&self, attempts: &mut Attempts) -> Option<Box<HttpPeer>> {
        if let Some((index, address)) = attempts.current {
            let member = self.members.get(index)?;
            // The origin closed a reused connection. The address itself is still usable.
            let same = !attempts.addresses.contains(&address.ip());
            let address = if same {
                Some(address)
            } else {
                member.address(&attempts.addresses)
            };
            if let Some(address) = address {
                attempts.current = Some((index, address));
                return Some(self.peer_at(member, address));
            }
            attempts.members.push(index);
            attempts.addresses.clear();
            attempts.current = None;
        }
        let index = self.select(&attempts.members)?;
        let member = self.members.get(index)?;
        let address = member.address(&[])?;
        attempts.current = Some((index, address));
        Some(self.peer_at(member, address))
    }

    /// Excludes members that speak only HTTP/2 from the attempts.
    pub(in crate::front::pingora) fn require_http1(&self, attempts: &mut Attempts) {
        let members = self.members.iter().enumerate();
        attempts.members.extend(
            members
                .filter(|(_, member)| !member.speaks_http1())
                .map(|(index, _)| index),
        );
    }

    /// Selects the next usable member in turn. One that is set aside is used if there is no other.
    fn select(&self, tried: &[usize]) -> Option<usize> {
        let now = self.now();
        let mut usable: SmallVec<[usize; 8]> = SmallVec::new();
        let mut set_aside: SmallVec<[usize; 8]> = SmallVec::new();
        for (index, member) in self.members.iter().enumerate() {
            if member.is_usable() && !tried.contains(&index) {
                if member.is_set_aside(now) {
                    set_aside.push(index)
                } else {
                    usable.push(index)
                }
            }
        }
        // Relaxed: concurrent requests need different numbers, in any order.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        while let Some(at) = turn.checked_rem(usable.len()) {
            let index = usable.remove(at);
            if self
                .members
                .get(index)
                .is_some_and(|member| member.claim(now))
            {
                return Some(index);
            }
            set_aside.push(index);
        }
        set_aside.get(turn.checked_rem(set_aside.len())?).copied()
    }

    /// Returns a peer. Its addresses share the time for a connection, so a silent address leaves
    /// time for the others.
    fn peer_at(&self, member: &Member, address: SocketAddr) -> Box<HttpPeer> {
        let mut peer = Box::new(member.peer(address));
        let count = u32::try_from(member.name.addresses().len()).unwrap_or(u32::MAX);
        if count > 1 {
            let whole = self.settings.connect_timeout;
            let share = whole
                .checked_div(count)
                .unwrap_or(whole)
                .max(LEAST_SHARE)
                .min(whole);
            peer.options.connection_timeout = Some(share);
            peer.options.total_connection_timeout = Some(share);
        }
        peer
    }

    /// Records that the attempt ended before any part of the request was sent. Returns `true` if
    /// another address or member can be tried.
    pub(in crate::front::pingora) fn failed(&self, attempts: &mut Attempts, error: &Error) -> bool {
        let Some((index, address)) = attempts.current else {
            return false;
        };
        let Some(member) = self.members.get(index) else {
            return false;
        };
        let unreachable = failure::is_unreachable(&error.etype);
        // An error after the connection, before the request was sent, is repeated once at the same
        // address.
        if !unreachable && !std::mem::replace(&mut attempts.repeated, true) {
            return true;
        }
        attempts.addresses.push(address.ip());
        if unreachable {
            member.avoid(address.ip(), &attempts.addresses);
        }
        if member.address(&attempts.addresses).is_some() {
            return true;
        }
        if unreachable && self.members.len() > 1 {
            self.set_aside(member, address, error);
        }
        let is_left = |(other, member): (usize, &Member)| {
            other != index && member.is_usable() && !attempts.members.contains(&other)
        };
        self.members.iter().enumerate().any(is_left)
    }

    fn set_aside(&self, member: &Member, address: SocketAddr, error: &Error) {
        let before = member
            .set_aside_until
            .swap(self.now().saturating_add(SET_ASIDE), Ordering::Relaxed);
        if before == 0 {
            tracing::warn!(
                application = self.settings.application,
                origin = &*member.label,
                %address,
                cause = failure::cause(error),
                "origin is unreachable; setting it aside for 10 s while others are usable"
            );
        }
    }

    /// Records that the attempt has a connection.
    pub(in crate::front::pingora) fn connected(&self, attempts: &Attempts, reused: bool) {
        let Some((index, address)) = attempts.current else {
            return;
        };
        let Some(member) = self.members.get(index) else {
            return;
        };
        if !reused {
            member.prefer(address.ip());
        }
        self.restore(member);
    }

    fn restore(&self, member: &Member) {
        // Reads first: a write on every request would contend for the cache line.
        if member.set_aside_until.load(Ordering::Relaxed) != 0
            && member.set_aside_until.swap(0, Ordering::Relaxed) != 0
        {
            let application = &self.settings.application;
            tracing::info!(
                application,
                origin = &*member.label,
                "origin is reachable again"
            );
        }
    }

    /// Applies the result of a health check.
    pub(super) fn observe(&self, member: &Member, outcome: Result<(), String>) {
        let healthy = outcome.is_ok();
        if healthy {
            self.restore(member);
        }
        if member.healthy.swap(healthy, Ordering::Relaxed) == healthy {
            return;
        }
        let (application, origin) = (&self.settings.application, &*member.label);
        match outcome {
            Ok(()) => tracing::info!(application, origin, "origin passes its health check again"),
            Err(cause) => {
                tracing::warn!(
                    application,
                    origin,
                    cause,
                    "origin fails its health check and gets no requests"
                )
            }
        }
    }

    /// Returns the `Host` header of a health check.
    pub(super) fn host_header(&self, member: &Member) -> String {
        let configured = self
            .settings
            .host_header
            .as_ref()
            .and_then(|host| host.to_str().ok());
        configured.unwrap_or(&member.label).to_owned()
    }

    /// Returns the milliseconds since the pool was started. Never 0, which means "not set aside".
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX - 1)
            .saturating_add(1)
    }
}

impl Member {
    fn new(target: &Target, settings: &PoolSettings, name: Arc<Name>) -> Self {
        let usual = if target.protocol.is_tls() { 443 } else { 80 };
        let (host, port) = (&target.host, target.port);
        let label = if port == usual {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
        Self {
            label: label.into(),
            name,
            port,
            template: template(target, settings),
            preferred: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            set_aside_until: AtomicU64::new(0),
        }
    }

    /// Returns `true` unless HTTP/2 is the only protocol.
    const fn speaks_http1(&self) -> bool {
        !matches!(self.template.options.alpn, ALPN::H2)
    }

    fn is_usable(&self) -> bool {
        self.healthy.load(Ordering::Relaxed) && !self.name.addresses().is_empty()
    }

    fn is_set_aside(&self, now: u64) -> bool {
        now < self.set_aside_until.load(Ordering::Relaxed)
    }

    /// Returns `true` if a request may try this member. After an exclusion only one request may, and
    /// others use other members until its result is known.
    fn claim(&self, now: u64) -> bool {
        let until = self.set_aside_until.load(Ordering::Relaxed);
        let again = now.saturating_add(SET_ASIDE);
        until == 0
            || self
                .set_aside_until
                .compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok_and(|_| until <= now)
    }

    /// Returns the address that worked last, or the next one, except for those in `without`.
    fn address(&self, without: &[IpAddr]) -> Option<SocketAddr> {
        let addresses = self.name.addresses();
        let start = self
            .preferred
            .load(Ordering::Relaxed)
            .checked_rem(addresses.len())?;
        let (before, from) = addresses.split_at_checked(start)?;
        let address = from
            .iter()
            .chain(before)
            .find(|address| !without.contains(address))?;
        Some(SocketAddr::new(*address, self.port))
    }

    /// Returns a peer for each address, in the order of attempts.
    pub(super) fn peers(&self) -> Vec<(HttpPeer, SocketAddr)> {
        let mut found: Vec<(HttpPeer, SocketAddr)> = Vec::new();
        let mut tried: SmallVec<[IpAddr; 4]> = SmallVec::new();
        while let Some(address) = self.address(&tried) {
            tried.push(address.ip());
            found.push((self.peer(address), address));
        }
        found
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = self.template.clone();
        peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        peer
    }

    /// Makes this address the first one to try.
    pub(super) fn prefer(&self, address: IpAddr) {
        let index = self
            .name
            .addresses()
            .iter()
            .position(|known| *known == address);
        // As in `restore`, an unchanged value is not written.
        if let Some(index) = index.filter(|index| *index != self.preferred.load(Ordering::Relaxed))
        {
            self.preferred.store(index, Ordering::Relaxed);
        }
    }

    /// Makes another address the first one to try, if it was this one.
    fn avoid(&self, address: IpAddr, failed: &[IpAddr]) {
        let first = self.address(&[]).is_some_and(|first| first.ip() == address);
        if let (true, Some(next)) = (first, self.address(failed)) {
            self.prefer(next.ip());
        }
    }
}

fn template(target: &Target, settings: &PoolSettings) -> HttpPeer {
    // Pingora would verify nothing if this name were empty, but a host is never empty.
    let host = target.host.trim_matches(['[', ']']);
    let name = settings
        .tls_server_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(host);
    let unspecified = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), target.port);
    let mut peer = HttpPeer::new(unspecified, target.protocol.is_tls(), name.to_owned());
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    options.read_timeout = Some(settings.read_timeout);
    options.write_timeout = Some(settings.read_timeout);
    options.idle_timeout = Some(settings.idle_timeout);
    options.alpn = match target.protocol {
        Protocol::Http => ALPN::H1,
        Protocol::Https => ALPN::H2H1,
        Protocol::H2c | Protocol::H2 => ALPN::H2,
    };
    options.verify_cert = settings.tls_verify;
    options.verify_hostname = settings.tls_verify;
    // Only `tunnel.rs` handles upgrades.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    Trust::set(settings.trust.as_ref(), &mut peer);
    peer
}

impl std::fmt::Debug for OriginPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OriginPool")
            .field(&self.settings.targets)
            .finish()
    }
}

/// The time for which an unreachable member is excluded, in milliseconds.
// Long enough to spare most requests a failed attempt, and short next to a restart of an origin.
const SET_ASIDE: u64 = 10_000;
/// The least time for a connection to one of several addresses.
// A connection over a slow link takes a second, and one lost packet takes another.
const LEAST_SHARE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
