//! The addresses of origins' host names.
//!
//! Decides which addresses a name has, and their order. Trusts the resolver of the operating
//! system. Never delays a start, a reload or a request: lookups run in the background, a bounded
//! number at a time. After a failed one the known addresses stay in use.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use crate::control::Background;

/// The host names of all pools. Origins with the same name share its lookups.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Mutex<HashMap<Box<str>, Weak<Name>>>,
    /// Limits the threads that wait for the resolver, so a silent DNS server cannot occupy all.
    lookups: Arc<Semaphore>,
    ended: watch::Sender<()>,
    resolve: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// One host name and its addresses.
#[derive(Debug)]
pub(super) struct Name {
    addresses: ArcSwap<Vec<IpAddr>>,
    /// `true` after the first lookup, even if it failed.
    looked_up: watch::Sender<bool>,
}

impl Default for Names {
    fn default() -> Self {
        Self::new(system)
    }
}

impl Names {
    fn new(resolve: fn(&str) -> io::Result<Vec<IpAddr>>) -> Self {
        let lookups = Arc::new(Semaphore::new(CONCURRENT));
        Self(Arc::new(Inner {
            known: Mutex::default(),
            lookups,
            ended: watch::Sender::new(()),
            resolve,
        }))
    }

    /// Returns the host with its known addresses. They are kept up to date in the background while
    /// the host is in use. IP addresses (IPv6 in brackets) and `localhost` names need no lookup.
    pub(super) fn get(&self, host: &str, background: &Background) -> Arc<Name> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Arc::new(Name::fixed(vec![address]));
        }
        // RFC 6761 6.3: these names are this machine, whatever a DNS server answers.
        if host == "localhost" || host.ends_with(".localhost") {
            return Arc::new(Name::fixed(vec![
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ]));
        }
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(host).and_then(Weak::upgrade) {
            return name;
        }
        let name = Arc::new(Name {
            addresses: ArcSwap::default(),
            looked_up: watch::Sender::new(false),
        });
        known.insert(host.into(), Arc::downgrade(&name));
        background.spawn(
            "origin names",
            follow(Arc::clone(&self.0), host.into(), Arc::downgrade(&name)),
        );
        name
    }

    /// Returns a receiver that is notified after each lookup.
    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.0.ended.subscribe()
    }
}

impl Name {
    fn fixed(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses: ArcSwap::from_pointee(addresses),
            looked_up: watch::Sender::new(true),
        }
    }

    /// Returns the addresses in the order of attempts; empty if none is known.
    pub(super) fn addresses(&self) -> arc_swap::Guard<Arc<Vec<IpAddr>>> {
        self.addresses.load()
    }

    /// Returns `true` until the first lookup is complete.
    pub(super) fn is_pending(&self) -> bool {
        !*self.looked_up.borrow()
    }
}

/// Looks up a host periodically until it is no longer in use.
async fn follow(names: Arc<Inner>, host: Box<str>, name: Weak<Name>) {
    let mut failing = false;
    while name.strong_count() > 0 {
        let found = names.look_up(&host).await;
        // The strong reference is held only briefly, so that a reload can drop the name during a
        // lookup.
        let Some(name) = name.upgrade() else { break };
        match found {
            Ok(found) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(
                        host = &*host,
                        "the host name of an origin is resolved again"
                    );
                }
                let known = name.addresses.load_full();
                // Unchanged addresses are not stored again, because each store costs readers a
                // cache miss.
                let merged = merge(&known, &found);
                if merged != *known {
                    name.addresses.store(Arc::new(merged));
                }
            }
            // Logged once and not every 15 seconds. The next line about this name is its recovery.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let known = name.addresses().len();
                let error = error.to_string();
                tracing::warn!(
                    host = &*host,
                    error,
                    known_addresses = known,
                    "cannot resolve the host name of an origin"
                );
            }
            Err(_) => {}
        }
        name.looked_up.send_replace(true);
        drop(name);
        // After the addresses: a request that waits for this finds them.
        names.ended.send_replace(());
        tokio::time::sleep(LOOKUP_EVERY).await;
    }
    let mut known = names.known.lock().unwrap_or_else(PoisonError::into_inner);
    // A reload may have added the same host again. Do not remove that entry.
    if known
        .get(&host)
        .is_some_and(|entry| entry.strong_count() == 0)
    {
        known.remove(&host);
    }
}

impl Inner {
    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (host, resolve) = (host.to_owned(), self.resolve);
        // The resolver cannot be cancelled, so the thread keeps the permit until it returns.
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            resolve(&host)
        });
        let found = lookup.await.map_err(io::Error::other)??;
        if found.is_empty() {
            Err(io::Error::other("the name has no addresses"))
        } else {
            Ok(found)
        }
    }
}

/// Calls the resolver of the operating system, which blocks.
fn system(host: &str) -> io::Result<Vec<IpAddr>> {
    (host, 0)
        .to_socket_addrs()
        .map(|found| found.map(|address| address.ip()).collect())
}

/// Orders addresses for attempts. Known ones keep their index, because DNS servers rotate their
/// answers and the address that worked last is stored by index. New ones follow, with the families
/// interleaved (RFC 8305 4).
fn merge(known: &[IpAddr], found: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    let mut merged: Vec<_> = known
        .iter()
        .filter(|address| found.contains(address))
        .copied()
        .collect();
    seen.extend(merged.iter().copied());
    let fresh: Vec<_> = found
        .iter()
        .filter(|address| seen.insert(**address))
        .collect();
    let first_is_ipv6 = fresh.first().is_some_and(|address| address.is_ipv6());
    let (first, second): (Vec<_>, Vec<_>) = fresh
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return merged;
        }
        merged.extend(pair.into_iter().flatten().copied());
    }
}

/// The interval of lookups, and so the delay until a change of addresses is noticed.
const LOOKUP_EVERY: Duration = Duration::from_secs(15);
/// A fraction of the 512 threads that a runtime has for blocking calls.
const CONCURRENT: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::runtime::{Handle, Runtime};

    use super::*;
    use crate::control::{Ended, Vital};

    fn background() -> (Background, Ended) {
        let (vital, ended) = Vital::new();
        (Background::new(Handle::current(), vital), ended)
    }

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    #[test]
    fn addresses_are_ordered_for_attempts() {
        for (known, found, merged) in [
            ("", "::1 127.0.0.1", "::1 127.0.0.1"),
            (
                "",
                "::1 ::2 ::3 10.0.0.1 10.0.0.2",
                "::1 10.0.0.1 ::2 10.0.0.2 ::3",
            ),
            ("", "10.0.0.1 10.0.0.2 ::1", "10.0.0.1 ::1 10.0.0.2"),
            ("", "10.0.0.1 10.0.0.1", "10.0.0.1"),
            (
                "10.0.0.1 10.0.0.2",
                "10.0.0.2 10.0.0.1",
                "10.0.0.1 10.0.0.2",
            ),
            (
                "10.0.0.1 10.0.0.2",
                "10.0.0.3 10.0.0.2 ::1",
                "10.0.0.2 10.0.0.3 ::1",
            ),
        ] {
            assert_eq!(
                merge(&addresses(known), &addresses(found)),
                addresses(merged),
                "{known} + {found}"
            );
        }
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_lookup() {
        let names = Names::default();
        for (host, known) in [
            ("10.1.2.3", "10.1.2.3"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("localhost", "127.0.0.1 ::1"),
            ("app.localhost", "127.0.0.1 ::1"),
        ] {
            let name = names.get(host, &background().0);
            assert_eq!(
                (name.addresses().to_vec(), name.is_pending()),
                (addresses(known), false),
                "{host}"
            );
        }
        assert!(names.0.known.lock().unwrap().is_empty());
    }

    /// Answers for some names, and blocks for others longer than any test runs.
    fn partly_silent(host: &str) -> io::Result<Vec<IpAddr>> {
        match host {
            "known.example" => Ok(addresses("10.0.0.1 ::1")),
            "empty.example" => Ok(Vec::new()),
            "unknown.example" => Err(io::Error::other("no such name")),
            _ => {
                std::thread::sleep(Duration::from_secs(2));
                Err(io::Error::other("silence"))
            }
        }
    }

    async fn looked_up(names: &Names, name: &Name) {
        let mut ended = names.ended();
        while name.is_pending() {
            ended.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_name_is_looked_up_once_for_all() {
        let names = Names::new(partly_silent);
        let first = names.get("known.example", &background().0);
        let second = names.get("known.example", &background().0);
        assert!(Arc::ptr_eq(&first, &second));
        looked_up(&names, &first).await;
        assert_eq!(*first.addresses().to_vec(), addresses("10.0.0.1 ::1"));
    }

    #[tokio::test]
    async fn silent_names_hold_up_no_others() {
        let names = Names::new(partly_silent);
        let silent: Vec<_> = (0..20)
            .map(|i| names.get(&format!("silent{i}.example"), &background().0))
            .collect();
        for (host, found) in [
            ("known.example", "10.0.0.1 ::1"),
            ("empty.example", ""),
            ("unknown.example", ""),
        ] {
            let name = names.get(host, &background().0);
            looked_up(&names, &name).await;
            assert_eq!(*name.addresses().to_vec(), addresses(found), "{host}");
        }
        assert!(
            silent.iter().all(|name| name.is_pending()),
            "they are still being looked up"
        );
    }

    #[tokio::test]
    async fn lookups_that_end_on_their_own_are_reported() {
        let runtime = Runtime::new().unwrap();
        let (vital, mut ended) = Vital::new();
        let names = Names::new(partly_silent);
        let name = names.get(
            "known.example",
            &Background::new(runtime.handle().clone(), vital),
        );
        looked_up(&names, &name).await;
        assert!(ended.try_recv().is_err());
        runtime.shutdown_background();
        assert_eq!(ended.recv().await, Some("origin names"));
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_of_a_name_out_of_use_end_without_a_report() {
        let (background, mut ended) = background();
        let names = Names::new(|_| Ok(vec![Ipv4Addr::LOCALHOST.into()]));
        drop(names.get("known.example", &background));
        drop(background);
        assert_eq!(ended.recv().await, None);
    }
}
