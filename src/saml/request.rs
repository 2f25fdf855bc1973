use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::canonical::canonical;
use super::tree::{self, ASSERTION, DSIG, EXC_C14N, PROTOCOL};
use super::{Binding, ServiceProvider};
use crate::model::{UnixTime, fill_random, hex};
use crate::token::SigningKey;

/// The demand of `ForceAuthn` (SAML Core 3.4.1) that the identity provider asks for credentials,
/// even if it has a session of the user. Serialized as a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Reauthentication {
    /// The provider must ask for credentials. An older login is rejected.
    Required,
    /// The provider may use its session.
    Optional,
}

impl From<bool> for Reauthentication {
    fn from(is_required: bool) -> Self {
        if is_required {
            Self::Required
        } else {
            Self::Optional
        }
    }
}

impl From<Reauthentication> for bool {
    fn from(reauthentication: Reauthentication) -> Self {
        reauthentication == Reauthentication::Required
    }
}

/// A login request on its way to the identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthnRequest {
    /// The ID that the response must answer; see [`super::Expected`]. Store it, sealed, in the
    /// browser that carries the request.
    pub id: String,
    /// The time of creation.
    pub at: UnixTime,
    /// As requested by the caller, or `Required` by the settings.
    pub reauthentication: Reauthentication,
    /// The request in the form that its binding prescribes.
    pub message: Message,
}

/// The browser's next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Go to this URL.
    Redirect(Url),
    /// Post a form with `SAMLRequest` and `RelayState` to this URL.
    Post {
        /// The form's action.
        action: Url,
        /// The value of `SAMLRequest`, in base64.
        saml_request: String,
        /// The value of `RelayState`, unchanged.
        relay_state: String,
    },
}

/// The reason why no request could be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The key failed, or the request cannot be parsed again. Neither happens with valid settings.
    #[error("the SAML request could not be signed")]
    Sign,
}

impl ServiceProvider {
    /// Creates a request with an ID of 128 random bits.
    ///
    /// `key`: signs the request, if requests are signed (`sign_request`). The settings may require
    /// a reauthentication even if the caller does not.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn start(
        &self,
        relay_state: &str,
        key: Option<&SigningKey>,
        reauthentication: Reauthentication,
        now: UnixTime,
    ) -> Result<AuthnRequest, RequestError> {
        let mut random = [0; 16];
        fill_random(&mut random);
        // An XML id begins with a letter or an underscore.
        let id = format!("_{}", hex(&random));
        let reauthentication = if self.force_authn() {
            Reauthentication::Required
        } else {
            reauthentication
        };
        let message = match self.binding() {
            Binding::Redirect => Message::Redirect(self.redirect(
                &self.request(&id, reauthentication, now, ""),
                relay_state,
                key,
            )?),
            Binding::Post => {
                let plain = self.request(&id, reauthentication, now, "");
                let signature = key
                    .map(|key| enveloped(&plain, &id, key))
                    .transpose()?
                    .unwrap_or_default();
                Message::Post {
                    action: self.sso_url().clone(),
                    saml_request: STANDARD.encode(self.request(
                        &id,
                        reauthentication,
                        now,
                        &signature,
                    )),
                    relay_state: relay_state.to_owned(),
                }
            }
        };
        Ok(AuthnRequest {
            id,
            at: now,
            reauthentication,
            message,
        })
    }

    /// Writes the request (SAML Core 3.4.1). It demands no name ID format, because providers reject
    /// requests with a format they do not know.
    fn request(
        &self,
        id: &str,
        reauthentication: Reauthentication,
        now: UnixTime,
        signature: &str,
    ) -> String {
        let (acs, destination) = (escape(self.acs()), escape(self.sso_url().as_str()));
        let force = match reauthentication {
            Reauthentication::Required => r#" ForceAuthn="true""#,
            Reauthentication::Optional => "",
        };
        let (at, issuer) = (instant(now), escape(self.entity_id()));
        format!(
            r#"<samlp:AuthnRequest xmlns:samlp="{PROTOCOL}" AssertionConsumerServiceURL="{acs}" Destination="{destination}"{force} ID="{id}" IssueInstant="{at}" ProtocolBinding="{POST}" Version="2.0"><saml:Issuer xmlns:saml="{ASSERTION}">{issuer}</saml:Issuer>{signature}<samlp:NameIDPolicy AllowCreate="true"></samlp:NameIDPolicy></samlp:AuthnRequest>"#
        )
    }

    /// Writes the request URL (SAML Bindings 3.4.4.1): the message is deflated, and the signature
    /// covers the parameters as they are encoded in the URL.
    fn redirect(
        &self,
        request: &str,
        relay_state: &str,
        key: Option<&SigningKey>,
    ) -> Result<Url, RequestError> {
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let message = STANDARD.encode(stored(request.as_bytes()));
        let mut query = format!(
            "SAMLRequest={}&RelayState={}",
            encode(&message),
            encode(relay_state)
        );
        if let Some(key) = key {
            query = format!("{query}&SigAlg={}", encode(RSA_SHA256));
            let signature = key
                .sign_bytes(query.as_bytes())
                .map_err(|_| RequestError::Sign)?;
            query = format!("{query}&Signature={}", encode(&STANDARD.encode(signature)));
        }
        let mut url = self.sso_url().clone();
        let query = match url.query().filter(|own| !own.is_empty()) {
            Some(own) => format!("{own}&{query}"),
            None => query,
        };
        url.set_query(Some(&query));
        Ok(url)
    }
}

/// Returns the signature element (SAML Core 5.4) for a request that is already in canonical form.
fn enveloped(request: &str, id: &str, key: &SigningKey) -> Result<String, RequestError> {
    let document = tree::parse(request).map_err(|_| RequestError::Sign)?;
    let bytes = canonical(document.root_element(), None, &[]).map_err(|_| RequestError::Sign)?;
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, bytes.as_bytes()));
    let info = |declaration: &str| {
        format!(
            r##"<ds:SignedInfo{declaration}><ds:CanonicalizationMethod Algorithm="{EXC_C14N}"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="{RSA_SHA256}"></ds:SignatureMethod><ds:Reference URI="#{id}"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform><ds:Transform Algorithm="{EXC_C14N}"></ds:Transform></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"##
        )
    };
    let declaration = format!(r#" xmlns:ds="{DSIG}""#);
    let value = key
        .sign_bytes(info(&declaration).as_bytes())
        .map_err(|_| RequestError::Sign)?;
    let (info, value) = (info(""), STANDARD.encode(value));
    Ok(format!(
        "<ds:Signature{declaration}>{info}<ds:SignatureValue>{value}</ds:SignatureValue></ds:Signature>"
    ))
}

/// Writes stored blocks (RFC 1951 3.2.4), which every inflater reads. A request has about 700
/// bytes, and compression would save only half of them.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 5);
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out
}

/// Formats a time (SAML Core 1.3.3).
pub(super) fn instant(time: UnixTime) -> String {
    i64::try_from(time.0)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

/// Escapes text for attribute values and element content. For the characters of a URL the result is
/// the canonical form in both positions.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub(super) const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
