//! `saml-metadata` and `public-cert`: the documents that a SAML identity provider imports.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;

use super::error_pages;
use crate::control::{Services, TokenIssuer};
use crate::idp::Provider;
use crate::login::PortalRequest;
use crate::pages::answer;
use crate::route::Endpoint;

/// Answers `saml-metadata`, for the provider in the path or the only one.
pub(super) fn metadata(
    services: &Services,
    issuer: &TokenIssuer,
    request: &PortalRequest,
) -> Response<Bytes> {
    let mut all = services.providers.iter().filter_map(Provider::as_saml);
    let named = request
        .path
        .strip_prefix(Endpoint::PREFIX)
        .and_then(|rest| rest.strip_suffix("/saml-metadata"));
    let saml = match named.map(|id| id.trim_start_matches('/')) {
        None | Some("") => all.next().filter(|_| all.next().is_none()),
        Some(id) => all.find(|saml| *saml.id().0 == *id),
    };
    let Some(saml) = saml else {
        return error_pages::not_found(request);
    };
    let certificates = if saml.signs_requests() {
        certificates(issuer)
    } else {
        Vec::new()
    };
    let pems: Vec<&str> = certificates.iter().map(String::as_str).collect();
    match saml.provider().metadata(&pems) {
        Ok(document) => text(document, "application/samlmetadata+xml"),
        Err(_) => error_pages::internal(request),
    }
}

/// Answers `public-cert`, with the certificates of the keys that may sign requests.
pub(super) fn public_cert(issuer: &TokenIssuer, request: &PortalRequest) -> Response<Bytes> {
    let certificates = certificates(issuer);
    if certificates.is_empty() {
        return error_pages::unavailable(request);
    }
    text(certificates.concat(), "application/x-pem-file")
}

/// Returns the certificates of the `certs` document, in PEM.
fn certificates(issuer: &TokenIssuer) -> Vec<String> {
    #[derive(Deserialize)]
    struct Document {
        public_certs: Vec<Published>,
    }
    #[derive(Deserialize)]
    struct Published {
        cert: String,
    }
    let document = issuer
        .signing()
        .and_then(|keys| serde_json::from_slice::<Document>(&keys.jwks()).ok());
    document
        .map(|document| {
            document
                .public_certs
                .into_iter()
                .map(|published| published.cert)
                .collect()
        })
        .unwrap_or_default()
}

fn text(body: String, kind: &'static str) -> Response<Bytes> {
    let mut response = answer::empty(StatusCode::OK);
    *response.body_mut() = body.into();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
