use std::sync::Arc;

use crate::model::{ClientCertificate, ClientTls, Fingerprint, UnixTime};
use crate::policy::Fact;
use crate::route::Domain;

/// A certificate authority whose certificates prove, on some hosts, which client it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// For people.
    pub name: String,
    /// Its certificates.
    pub roots: Vec<Root>,
    /// The hosts on which they count; nowhere else do they.
    pub hosts: Vec<Domain>,
}

/// The certificate of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// In DER form.
    pub der: Arc<[u8]>,
    /// What it is found by.
    pub fingerprint: Fingerprint,
}

impl Root {
    /// Takes a certificate in DER form.
    pub fn new(der: &[u8]) -> Self {
        Self {
            der: der.into(),
            fingerprint: Fingerprint::of(der),
        }
    }
}

/// What is known of the client's certificate on a host. A certificate of an authority that is
/// another host's is none, and where no authority is this host's nothing can be known.
pub(super) fn certificate<'a>(
    authorities: &[Authority],
    host: &str,
    tls: Option<&'a ClientTls>,
    now: UnixTime,
) -> Fact<&'a Arc<ClientCertificate>> {
    let here = || of_host(authorities, host);
    let Some(tls) = tls.filter(|_| here().next().is_some()) else {
        return Fact::Unknown;
    };
    let good = |certificate: &&Arc<ClientCertificate>| {
        let leads_to = |root: &Root| certificate.roots.contains(&root.fingerprint);
        now < certificate.expires && here().any(|authority| authority.roots.iter().any(leads_to))
    };
    tls.certificate
        .as_ref()
        .filter(good)
        .map_or(Fact::Absent, Fact::Present)
}

/// The authorities whose certificates count on a host.
pub(super) fn of_host<'a>(
    authorities: &'a [Authority],
    host: &'a str,
) -> impl Iterator<Item = &'a Authority> {
    authorities.iter().filter(move |authority| {
        authority
            .hosts
            .iter()
            .any(|domain| domain.covers_host(host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h17_a_certificate_counts_where_its_authority_does() {
        let root = |der: &[u8]| Root::new(der);
        let authority = |name: &str, roots, hosts: &[&str]| Authority {
            name: name.into(),
            roots,
            hosts: hosts
                .iter()
                .map(|host| Domain::parse(host).unwrap())
                .collect(),
        };
        let authorities = [
            authority(
                "devices",
                vec![root(b"one"), root(b"next")],
                &["a.example.com", "*.dev.example.com"],
            ),
            authority(
                "partners",
                vec![root(b"two")],
                &["b.example.com", "a.example.com"],
            ),
        ];
        let shown = |roots: &[&[u8]]| ClientTls {
            certificate: Some(Arc::new(ClientCertificate {
                common_name: "client".into(),
                expires: UnixTime(100),
                roots: roots.iter().map(|der| Fingerprint::of(der)).collect(),
            })),
        };
        let fact = |tls: Option<&ClientTls>, host: &str, now| {
            match certificate(&authorities, host, tls, UnixTime(now)) {
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
