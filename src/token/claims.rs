use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::model::UnixTime;

/// The purpose of a token. An organisation token opens no application, and an application token is
/// no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One application's session.
    App,
    /// The organisation session on the team domain.
    Org,
}

/// The claims of an Access token. Unknown ones are passed over, known ones must have their type,
/// and none may stand twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// `https://<team domain>`.
    pub iss: String,
    /// Audience tags; one in our own tokens.
    #[serde(deserialize_with = "one_or_more")]
    pub aud: Vec<String>,
    /// The first second at which the token is expired.
    #[serde(deserialize_with = "date")]
    pub exp: UnixTime,
    /// Time of issue, in Unix seconds.
    #[serde(deserialize_with = "date")]
    pub iat: UnixTime,
    /// The first second at which it is valid.
    #[serde(
        default,
        deserialize_with = "optional_date",
        skip_serializing_if = "Option::is_none"
    )]
    pub nbf: Option<UnixTime>,
    /// The kind of token. Cloudflare's tokens and ours always have it.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The user; empty for a service client.
    #[serde(default)]
    pub sub: String,
    /// The user's email address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The key of the identity record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_nonce: Option<String>,
    /// ISO 3166 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The claims that the identity provider's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Map<String, Value>>,
}

/// The claims of an organisation token beside those of every token. They are written and never
/// read: the identity record is authoritative.
#[derive(Clone, Debug, Serialize)]
pub struct OrganisationClaims<'a> {
    /// Those of every token.
    #[serde(flatten)]
    pub claims: &'a Claims,
    /// The team, in the claim that names an account at Access.
    pub account_id: &'a str,
    /// The whole `get-identity` document; absent if it would not fit into a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<&'a Value>,
}

/// The claims of the token that names a service client to an origin (`docs/wire.md` 5.3).
///
/// It has no email address, so it is never a session.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceClaims<'a> {
    /// `https://<team domain>`.
    pub iss: &'a str,
    /// The application's audience tag.
    pub aud: [&'a str; 1],
    /// The first second at which the token is expired.
    pub exp: UnixTime,
    /// Time of issue, in Unix seconds.
    pub iat: UnixTime,
    /// An application's.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The client id of a service token, or the common name of a certificate.
    pub common_name: &'a str,
    /// Empty: there is no user.
    pub sub: &'a str,
}

/// RFC 7519 2: a number of seconds, perhaps with a fraction, which is dropped.
pub(super) fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixTime, D::Error> {
    NumericDate::deserialize(deserializer).map(|NumericDate(time)| time)
}

fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixTime>, D::Error> {
    Option::deserialize(deserializer).map(|date| date.map(|NumericDate(time)| time))
}

struct NumericDate(UnixTime);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl de::Visitor<'_> for Seconds {
            type Value = NumericDate;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("seconds since 1970")
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(UnixTime(seconds)))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<NumericDate, E> {
                UnixTime::from_fraction(seconds)
                    .map(NumericDate)
                    .ok_or_else(|| E::custom("not a time"))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

/// RFC 7519 §4.1.3: a string or an array of strings.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Audience;
    impl<'de> de::Visitor<'de> for Audience {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or an array of strings")
        }
        fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = seq.next_element::<Cow<'de, str>>()? {
                all.push(one.into_owned());
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Audience)
}
