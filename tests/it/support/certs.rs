//! Certificates, most of them made on the spot, and the TLS settings of those who trust them.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// A self-signed certificate and its key.
pub struct Certificate {
    /// The certificate as PEM.
    pub pem: String,
    /// Its private key as PEM.
    pub key_pem: String,
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// A certificate for `names`.
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        }
    }

    /// A fixed certificate for the hosts of the tests.
    pub fn of_the_listener() -> Self {
        let pem = include_str!("../../keys/listener.crt");
        let key_pem = include_str!("../../keys/listener.key");
        Self {
            pem: pem.to_owned(),
            key_pem: key_pem.to_owned(),
            der: CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(),
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap(),
        }
    }

    /// A certificate for `names` that is valid from `start` to `end`, in seconds from now.
    pub fn valid(names: &[&str], start: i64, end: i64) -> Self {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())
                .unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let at = |offset| {
            date_time_ymd(1970, 1, 1) + Duration::from_secs(now.saturating_add_signed(offset))
        };
        (params.not_before, params.not_after) = (at(start), at(end));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// A server's side, offering HTTP/2 and HTTP/1.1.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client's side that trusts this certificate alone and speaks `protocol` (`h2`, `http/1.1`
    /// or `http/1.0`).
    pub fn client(&self, protocol: &str) -> Arc<ClientConfig> {
        self.client_with(protocol, None, rustls::ALL_VERSIONS)
    }

    /// The same for a client that has a certificate of its own, and speaks these versions of TLS.
    pub fn client_with(
        &self,
        protocol: &str,
        identity: Option<&ClientIdentity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(ClientIdentity { chain, key }) => config
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// A certificate authority for clients.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate and its key.
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// An authority of that name.
    pub fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(ca(name), KeyPair::generate().unwrap()).unwrap())
    }

    /// Another one under this one.
    pub fn intermediate(&self, name: &str) -> Self {
        Self(CertifiedIssuer::signed_by(ca(name), KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a client of that common name.
    pub fn client(&self, common_name: &str) -> ClientIdentity {
        self.client_of(&[common_name], |_| ())
    }

    /// A certificate with these common names, and whatever else is to be different.
    pub fn client_of(
        &self,
        common_names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ClientIdentity {
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        // Each kind stands once in there, so the second of the same is written by its number.
        for (kind, name) in [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])]
            .into_iter()
            .zip(common_names)
        {
            params.distinguished_name.push(kind, *name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let chain = vec![certificate.der().clone(), self.0.der().clone()];
        ClientIdentity {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// One that was good until yesterday, so to speak.
    pub fn expired(&self, common_name: &str) -> ClientIdentity {
        self.client_of(&[common_name], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
