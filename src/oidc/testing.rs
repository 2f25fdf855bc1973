//! Keys and ID tokens for tests.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::keys;
use crate::model::{Secret, UnixTime};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

#[derive(Clone)]
pub(crate) enum TestKey {
    Rsa(Arc<KeyPair>),
    Ec(&'static str, Arc<EcdsaKeyPair>),
    Ed(Arc<Ed25519KeyPair>),
}

/// Returns one of two fixed RSA keys. Generating one would take longer than most tests.
pub(crate) fn rsa(index: usize) -> TestKey {
    static KEYS: [OnceLock<Arc<KeyPair>>; 2] = [const { OnceLock::new() }; 2];
    TestKey::Rsa(Arc::clone(KEYS[index].get_or_init(|| {
        let pem = [keys::TEAM, keys::STRANGER][index];
        Arc::new(KeyPair::from_pkcs8(&keys::der(pem)).unwrap())
    })))
}

pub(crate) fn ec(alg: &'static str) -> TestKey {
    let algorithm = match alg {
        "ES256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
        "ES384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &ECDSA_P521_SHA512_FIXED_SIGNING,
    };
    TestKey::Ec(alg, Arc::new(EcdsaKeyPair::generate(algorithm).unwrap()))
}

pub(crate) fn ed() -> TestKey {
    TestKey::Ed(Arc::new(Ed25519KeyPair::generate().unwrap()))
}

impl TestKey {
    pub(crate) fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair) => json!({
                "kty": "RSA", "use": "sig",
                "n": b64(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": b64(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Self::Ec(alg, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = match *alg {
                    "ES256" => "P-256",
                    "ES384" => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
            }
        };
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// Returns the private key as a PEM file.
    pub(crate) fn pem(&self) -> Secret {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        use base64::engine::general_purpose::STANDARD;
        let der = match self {
            Self::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair)
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ec(_, pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
        };
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        Secret::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        ))
    }

    /// Returns a compact JWS over exactly these bytes.
    pub(crate) fn sign(&self, header: &Value, payload: &str) -> String {
        let message = format!(
            "{}.{}",
            b64(header.to_string().as_bytes()),
            b64(payload.as_bytes())
        );
        let rng = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let padding: &dyn RsaEncoding = match header["alg"].as_str().unwrap_or_default() {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &rng, message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Ec(_, pair) => pair
                .sign(&rng, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
        };
        format!("{message}.{}", b64(&signature))
    }
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
