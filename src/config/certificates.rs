use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::origins;
use super::reader::{Item, Place, Reader, Table, Unique};
use super::server::Listen;
use super::values;
use crate::catalog::{ClientAuthority, Domain, Kind};
use crate::policy::{Policy, Rule};
use crate::route;

/// Reads `[[certificates]]`.
pub(super) fn read_all(table: &mut Table<'_>, listen: &[Listen]) -> Vec<ClientAuthority> {
    let item = table.item("certificates");
    if let Some(item) =
        item.filter(|_| !listen.is_empty() && listen.iter().all(|listen| listen.tls.is_none()))
    {
        item.warn(
            "no listener has a certificate of its own, and clients send theirs over TLS only: no client certificate will be seen",
        );
    }
    let mut names = Unique::new("authority has the name");
    let list = table.list("certificates");
    list.iter()
        .filter_map(|item| {
            let authority = item.table(|table| read(table, &mut names)).flatten()?;
            item.record(Kind::Certificate, &authority.id);
            Some(authority)
        })
        .collect()
}

fn read(table: &mut Table<'_>, names: &mut Unique) -> Option<ClientAuthority> {
    let name = table
        .needed("name", "\"Devices\"")
        .and_then(|item| item.claim(values::label, names));
    let ca = if table.is_access() {
        table.ignore(&["id"]);
        table.ignore_read_only();
        inline_authorities(table)
    } else {
        table.foreign(&[(
            "certificate",
            "this is called `ca` and names a file in PEM form",
        )]);
        authorities_of_file(table)
    };
    let hosts = table
        .needed("associated_hostnames", "[\"app.example.com\"]")
        .and_then(|item| {
            let list = item.list()?;
            if list.is_empty() {
                item.error("its certificates would count nowhere; name at least one host");
            }
            // Every host is checked, so that all mistakes are reported.
            let hosts: Vec<_> = list.iter().map(host).collect();
            hosts.into_iter().collect::<Option<Vec<_>>>()
        });
    let (file, roots) = ca?;
    let name = name?;
    Some(ClientAuthority {
        id: ClientAuthority::derive_id(&name),
        name,
        file,
        roots,
        hosts: hosts?,
    })
}

type Authorities = (Option<PathBuf>, Vec<CertificateDer<'static>>);

fn authorities_of_file(table: &mut Table<'_>) -> Option<Authorities> {
    let item = table.needed("ca", "\"devices-ca.pem\"")?;
    let file = item.reader().resolve(item.text()?);
    // Offline nothing depends on the clients' certificates.
    let offline = || item.reader().env().is_offline().then(Vec::new);
    Some((Some(file), origins::authorities(&item).or_else(offline)?))
}

fn inline_authorities(table: &mut Table<'_>) -> Option<Authorities> {
    let item = table.needed("certificate", "\"-----BEGIN CERTIFICATE-----…\"")?;
    Some((None, origins::authorities(&item)?))
}

fn host(item: &Item<'_>) -> Option<route::Domain> {
    let domain = item.parse(Domain::parse)?;
    let host = domain.pattern.host();
    if domain.pattern.path() != "/" {
        item.error(&format!(
            "a certificate is a connection's and counts for whole hosts; write `{host}`"
        ));
        return None;
    }
    Some(domain.pattern)
}

/// Reports a policy that requires a client certificate on a host without an authority.
pub(super) fn report_unknown(
    reader: &Reader<'_>,
    policy: &Policy,
    place: &Place,
    domain: &Domain,
    authorities: &[ClientAuthority],
) {
    let mut rules = policy
        .include
        .iter()
        .chain(&policy.require)
        .chain(&policy.exclude);
    let Some(rule) =
        rules.find(|rule| matches!(rule, Rule::Certificate {} | Rule::CommonName { .. }))
    else {
        return;
    };
    let host = domain.pattern.host();
    let concrete = |host: &str| host.replace('*', "x");
    let meet = |theirs: &route::Domain| {
        theirs.covers_host(&concrete(host)) || domain.pattern.covers_host(&concrete(theirs.host()))
    };
    if !authorities
        .iter()
        .any(|authority| authority.hosts.iter().any(meet))
    {
        let message = format!(
            "`{}`: no `[[certificates]]` is associated with `{host}`, so client certificates are unknown there: in `include` \
             and `require` this never matches, in `exclude` it denies every request",
            rule.selector()
        );
        reader.warn(place, &message);
    }
}
