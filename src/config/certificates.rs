use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::Domain;
use super::origins;
use super::reader::{Item, Place, Reader, Table};
use super::server::Listen;
use super::unique::Unique;
use super::values;
use crate::policy::{Policy, Rule};
use crate::route;

/// A certificate authority for clients (`[[certificates]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// For people.
    pub name: String,
    /// The file that it was read from, which is read again when it changes.
    pub file: PathBuf,
    /// What is in it; never empty, save where the configuration is read where it does not run.
    pub roots: Vec<CertificateDer<'static>>,
    /// The hosts on which its certificates count; at least one.
    pub hosts: Vec<route::Domain>,
}

/// Reads `[[certificates]]`.
pub(super) fn read_all(table: &mut Table<'_>, listen: &[Listen]) -> Vec<ClientAuthority> {
    let item = table.item("certificates");
    if let Some(item) =
        item.filter(|_| !listen.is_empty() && listen.iter().all(|listen| listen.tls.is_none()))
    {
        item.warn(
            "no listener here has a certificate of its own, and clients show theirs only then: nobody's will ever be known",
        );
    }
    let mut names = Unique::new("authority has the name");
    let list = table.list("certificates");
    list.iter()
        .filter_map(|item| item.table(|table| read(table, &mut names)).flatten())
        .collect()
}

fn read(table: &mut Table<'_>, names: &mut Unique) -> Option<ClientAuthority> {
    table.foreign(&[(
        "certificate",
        "this is called `ca` and names a file in PEM form",
    )]);
    let name = table
        .needed("name", "\"Devices\"")
        .and_then(|item| item.claim(values::label, names));
    let ca = table.needed("ca", "\"devices-ca.pem\"").and_then(|item| {
        let file = item.reader().resolve(item.text()?);
        // Where it does not run, who its clients are does not matter.
        let elsewhere = || item.reader().env().is_offline().then(Vec::new);
        Some((file, origins::authorities(&item).or_else(elsewhere)?))
    });
    let hosts = table
        .needed("associated_hostnames", "[\"app.example.com\"]")
        .and_then(|item| {
            let list = item.list()?;
            if list.is_empty() {
                item.error("its certificates would count nowhere; name at least one host");
            }
            // Each is looked at, whatever is wrong with the others.
            let hosts: Vec<_> = list.iter().map(host).collect();
            hosts.into_iter().collect::<Option<Vec<_>>>()
        });
    let (file, roots) = ca?;
    Some(ClientAuthority {
        name: name?,
        file,
        roots,
        hosts: hosts?,
    })
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

/// Reports a policy that asks for a client certificate on a host for which there is no authority.
pub(super) fn report_unknown(
    reader: &Reader<'_>,
    (policy, place): &(Policy, Place),
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
            "`{}`: no `[[certificates]]` is associated with `{host}`, so whether a client has a certificate is not known \
             there: in `include` and `require` that lets nobody in, in `exclude` it keeps everybody out",
            rule.selector()
        );
        reader.warn(place, &message);
    }
}
