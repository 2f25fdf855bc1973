use std::net::SocketAddr;

use super::reader::{Item, Place, Reader, Table};
use super::server::{Insecure, Listen, Listener, RedirectListener};
use super::unique::Unique;
use crate::catalog::Team;

/// The listeners of a configuration.
pub(super) struct Listeners {
    pub(super) serving: Vec<Listen>,
    pub(super) redirects: Vec<RedirectListener>,
    /// Listeners that serve applications without TLS and without a trusted proxy in front.
    unencrypted: Vec<Place>,
    redirecting: Vec<Place>,
}

impl Listeners {
    /// Returns the addresses of all listeners.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let serving = self.serving.iter().map(|listen| listen.address);
        serving
            .chain(self.redirects.iter().map(|redirect| redirect.address))
            .collect()
    }

    /// Reports listeners that do not fit the scheme of the team's URL.
    pub(super) fn report_scheme(&self, reader: &Reader<'_>, team: &Team) {
        if team.plain_http {
            for place in &self.redirecting {
                reader.error(
                    place,
                    "the team is on plain HTTP, so there is no HTTPS to redirect to; remove this \
                     listener",
                );
            }
            return;
        }
        for place in &self.unencrypted {
            reader.warn(
                place,
                "the team is on HTTPS, and logins over this listener fail: browsers drop the cookies of plain HTTP; \
                 write `redirect_to_https = true`, or name the proxy in front that has a certificate in `trusted_proxies`",
            );
        }
    }
}

/// Reads `[[listen]]`.
pub(super) fn read_all(table: &mut Table<'_>, insecure: &Insecure) -> Listeners {
    let mut addresses = Unique::new("listener has the address");
    let example = "`[[listen]]` with `address = \"0.0.0.0:443\"` and `tls = { certificate = \"tls.crt\", key = \"tls.key\" }`";
    let embedded = table.reader().is_embedded();
    let item = if embedded {
        table.item("listen")
    } else {
        table.needed_section("listen", example)
    };
    let list = item.as_ref().and_then(Item::list).unwrap_or_default();
    if let (Some(item), true) = (
        &item,
        list.is_empty()
            && item
                .as_ref()
                .is_some_and(|item| item.node().as_list().is_some()),
    ) {
        item.error("this list is empty; add a listener");
    }
    let mut read = Listeners {
        serving: Vec::new(),
        redirects: Vec::new(),
        unencrypted: Vec::new(),
        redirecting: Vec::new(),
    };
    let mut failed = false;
    for item in &list {
        let Some(listener) = item
            .table(|table| Listener::read(table, insecure))
            .flatten()
        else {
            failed = true;
            continue;
        };
        let place = item
            .get("address")
            .map_or_else(|| item.place().clone(), |item| item.place().clone());
        addresses.claim(item.reader(), &listener.address().to_string(), &place);
        match listener {
            Listener::Serving(listen) => {
                if listen.tls.is_none() && listen.trusted_proxies.is_empty() {
                    read.unencrypted.push(place);
                }
                read.serving.push(listen);
            }
            Listener::Redirecting(redirect) => {
                read.redirecting.push(place);
                read.redirects.push(redirect);
            }
        }
    }
    if let (Some(item), true, false, false) = (
        &item,
        read.serving.is_empty(),
        read.redirects.is_empty(),
        failed,
    ) && !item.reader().is_embedded()
    {
        item.error("every listener here only redirects; add one with `tls` to redirect to");
    }
    read
}
