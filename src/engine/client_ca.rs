use std::sync::Arc;

use crate::model::{ClientCertificate, ClientTls, Fingerprint, UnixTime};
use crate::policy::Fact;
use crate::route::Domain;

/// A certificate authority for client certificates, and the hosts that accept them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// Shown to administrators.
    pub name: String,
    /// Its root certificates.
    pub roots: Vec<Root>,
    /// The only hosts on which its certificates count.
    pub hosts: Vec<Domain>,
}

/// A root certificate of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// DER-encoded.
    pub der: Arc<[u8]>,
    /// SHA-256 of `der`.
    pub fingerprint: Fingerprint,
}

impl Root {
    /// Takes a certificate in DER form.
    pub fn new(der: &[u8]) -> Self {
        Self {
            der: der.into(),
            fingerprint: Fingerprint::sha256(der),
        }
    }
}

/// Returns the client's certificate if an authority of this host issued it.
///
/// A certificate of another host's authority is absent. If the host has no authority, no
/// certificate was requested, and the fact is unknown.
pub(super) fn certificate<'a>(
    cas: &[ClientCa],
    host: &str,
    tls: Option<&'a ClientTls>,
    now: UnixTime,
) -> Fact<&'a Arc<ClientCertificate>> {
    let here = || for_host(cas, host);
    let Some(tls) = tls.filter(|_| here().next().is_some()) else {
        return Fact::Unknown;
    };
    let good = |certificate: &&Arc<ClientCertificate>| {
        let leads_to = |root: &Root| certificate.roots.contains(&root.fingerprint);
        // TLS checked the certificate when the connection began. It may have expired since, or the
        // authority may have been removed.
        now < certificate.expires && here().any(|ca| ca.roots.iter().any(leads_to))
    };
    tls.certificate
        .as_ref()
        .filter(good)
        .map_or(Fact::Absent, Fact::Present)
}

/// Yields the authorities for client certificates on a host.
pub(super) fn for_host<'a>(
    cas: &'a [ClientCa],
    host: &'a str,
) -> impl Iterator<Item = &'a ClientCa> {
    cas.iter()
        .filter(move |ca| ca.hosts.iter().any(|domain| domain.covers_host(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h17_a_certificate_counts_where_its_authority_does() {
        let root = |der: &[u8]| Root::new(der);
        let ca = |name: &str, roots, hosts: &[&str]| ClientCa {
            name: name.into(),
            roots,
            hosts: hosts
                .iter()
                .map(|host| Domain::parse(host).unwrap())
                .collect(),
        };
        let cas = [
            ca(
                "devices",
                vec![root(b"one"), root(b"next")],
                &["a.example.com", "*.dev.example.com"],
            ),
            ca(
                "partners",
                vec![root(b"two")],
                &["b.example.com", "a.example.com"],
            ),
        ];
        let shown = |roots: &[&[u8]]| ClientTls {
            certificate: Some(Arc::new(ClientCertificate {
                common_name: "client".into(),
                expires: UnixTime(100),
                roots: roots.iter().map(|der| Fingerprint::sha256(der)).collect(),
            })),
        };
        let fact = |tls: Option<&ClientTls>, host: &str, now| {
            match certificate(&cas, host, tls, UnixTime(now)) {
                Fact::Unknown => "unknown",
                Fact::Absent => "absent",
                Fact::Present(_) => "present",
            }
            .to_owned()
        };
        let (one, next, two, none) = (
            shown(&[b"one"]),
            shown(&[b"next"]),
            shown(&[b"two"]),
            ClientTls::default(),
        );
        for (tls, host, now, expected) in [
            (Some(&one), "a.example.com", 1, "present"),
            (Some(&next), "x.dev.example.com", 1, "present"),
            (Some(&one), "b.example.com", 1, "absent"),
            (Some(&two), "a.example.com", 1, "present"),
            (Some(&two), "x.dev.example.com", 1, "absent"),
            (Some(&one), "a.example.com", 99, "present"),
            (Some(&one), "a.example.com", 100, "absent"),
            (Some(&none), "a.example.com", 1, "absent"),
            (None, "a.example.com", 1, "unknown"),
            (Some(&one), "c.example.com", 1, "unknown"),
            (Some(&none), "c.example.com", 1, "unknown"),
            (Some(&shown(&[])), "a.example.com", 1, "absent"),
            (Some(&shown(&[b"gone"])), "a.example.com", 1, "absent"),
        ] {
            assert_eq!(fact(tls, host, now), expected, "{tls:?} on {host} at {now}");
        }
    }
}
