use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::IdpId;

/// One rule, in exactly the JSON of Cloudflare Access: an object with the selector as its only member.
///
/// The rest of the selectors have their place here; until one is in this list, it is an unknown selector and an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// The person's address, compared without regard to case.
    Email {
        /// The whole address.
        email: String,
    },
    /// What stands after the `@`.
    EmailDomain {
        /// The domain, without the `@`. Subdomains are other domains.
        domain: String,
    },
    /// Anybody.
    Everyone {},
    /// The client's address.
    Ip {
        /// An address or a network in CIDR form.
        ip: IpRange,
    },
    /// Membership in a group of an Okta provider, by name, byte for byte.
    Okta {
        /// The group's name.
        name: String,
        /// The provider's id.
        identity_provider_id: IdpId,
    },
    /// An Access group.
    Group {
        /// Its id.
        id: String,
    },
    /// The identity provider that the person came through.
    LoginMethod {
        /// The provider's id.
        id: IdpId,
    },
}

impl Rule {
    /// The selector's name, as it is written.
    pub const fn selector(&self) -> &'static str {
        match self {
            Self::Email { .. } => "email",
            Self::EmailDomain { .. } => "email_domain",
            Self::Everyone {} => "everyone",
            Self::Ip { .. } => "ip",
            Self::Okta { .. } => "okta",
            Self::Group { .. } => "group",
            Self::LoginMethod { .. } => "login_method",
        }
    }

    /// Whether it asks who the person is. Such a rule has no place in a bypass policy.
    pub const fn is_about_identity(&self) -> bool {
        match self {
            Self::Email { .. } | Self::EmailDomain { .. } | Self::Okta { .. } | Self::LoginMethod { .. } => true,
            Self::Everyone {} | Self::Ip { .. } | Self::Group { .. } => false,
        }
    }
}

/// An address or a network. It keeps the text it was written with, so that what is read back is what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    text: String,
    net: IpNet,
}

impl IpRange {
    /// The network; IPv4-mapped IPv6 addresses are IPv4.
    pub const fn net(&self) -> IpNet {
        self.net
    }
}

impl TryFrom<String> for IpRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let net = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip.to_canonical())));
        let net =
            net.ok_or_else(|| format!("`{text}` is neither an IP address nor a network like `203.0.113.0/24`"))?;
        let net = match net {
            IpNet::V6(v6) => match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
                (Some(v4), Some(prefix)) => {
                    ipnet::Ipv4Net::new(v4, prefix).map(IpNet::V4).map_err(|_| format!("`{text}` is no network"))?
                }
                (Some(_), None) => return Err(format!("`{text}` holds IPv4 and IPv6 addresses, write two rules")),
                (None, _) => net,
            },
            IpNet::V4(_) => net,
        };
        if net.trunc() != net {
            return Err(format!("`{text}` has bits beyond its prefix, write `{}`", net.trunc()));
        }
        Ok(Self { text, net })
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.text
    }
}

/// What a policy does with those it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyDecision {
    /// They may.
    Allow,
    /// They may not.
    Deny,
    /// No check at all, and no identity.
    Bypass,
}

/// A policy as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its own id; the name serves where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// What it does.
    pub decision: PolicyDecision,
    /// At least one of these.
    pub include: Vec<Rule>,
    /// And every one of these.
    #[serde(default)]
    pub require: Vec<Rule>,
    /// And none of these.
    #[serde(default)]
    pub exclude: Vec<Rule>,
    /// How long a session opened by this policy lasts; the application's duration where it says nothing.
    #[serde(default, with = "crate::model::duration::option", skip_serializing_if = "Option::is_none")]
    pub session_duration: Option<Duration>,
}

/// An Access group: rules under a name, for use in policies and in other groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessGroup {
    /// What rules refer to.
    pub id: String,
    /// For people.
    pub name: String,
    /// At least one of these.
    pub include: Vec<Rule>,
    /// And every one of these.
    #[serde(default)]
    pub require: Vec<Rule>,
    /// And none of these.
    #[serde(default)]
    pub exclude: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_mapped_addresses_are_ranges_of_ipv4() {
        let net = |text: &str| IpRange::try_from(text.to_owned()).map(|range| range.net().to_string());
        for (text, expected) in [
            ("::ffff:203.0.113.9", "203.0.113.9/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::ffff:cb00:7100/120", "203.0.113.0/24"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::203.0.113.0/120", "::cb00:7100/120"),
        ] {
            assert_eq!(net(text).as_deref(), Ok(expected), "{text}");
        }
        for refused in ["::ffff:0:0/95", "::ffff:203.0.113.9/120", "::ffff:203.0.113.0/129", "::ffff:203.0.113"] {
            assert!(net(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_json_of_access_reads_and_writes_the_same() {
        for json in [
            r#"{"email":{"email":"a@b.c"}}"#,
            r#"{"email_domain":{"domain":"b.c"}}"#,
            r#"{"everyone":{}}"#,
            r#"{"ip":{"ip":"203.0.113.0/24"}}"#,
            r#"{"ip":{"ip":"1.2.3.4"}}"#,
            r#"{"group":{"id":"x"}}"#,
            r#"{"okta":{"name":"Eng","identity_provider_id":"y"}}"#,
            r#"{"login_method":{"id":"y"}}"#,
        ] {
            let rule: Rule = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&rule).unwrap(), json);
        }
        for bad in [
            r#"{}"#,
            r#"{"email":{}}"#,
            r#"{"email":{"email":"a@b.c"},"everyone":{}}"#,
            r#"{"email":{"email":"a","x":1}}"#,
            r#"{"nobody":{}}"#,
            r#"{"ip":{"ip":"1.2.3"}}"#,
            r#"{"ip":{"ip":"10.0.0.1/8"}}"#,
            r#"{"everyone":{"x":1}}"#,
            r#""everyone""#,
            r#"{"email":{"email":1}}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(bad).is_err(), "{bad}");
        }
    }
}
