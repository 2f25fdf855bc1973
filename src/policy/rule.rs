use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{Country, IpRange, TimeWindow, Verb};
use crate::model::IdpId;

/// One rule, in exactly the JSON of Cloudflare Access: an object with the selector as its only
/// member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// The user's email address, compared without regard to case.
    Email {
        /// The whole address.
        email: String,
    },
    /// The domain of the email address.
    EmailDomain {
        /// The domain, without the `@`. Subdomains are other domains.
        domain: String,
    },
    /// An address on a list.
    EmailList {
        /// The id of a configured list of this kind.
        id: String,
    },
    /// Every request.
    Everyone {},
    /// The client's IP address.
    Ip {
        /// An address or a network in CIDR form.
        ip: IpRange,
    },
    /// An address or network on a list.
    IpList {
        /// The id of a configured list of this kind.
        id: String,
    },
    /// The country of the client's IP address.
    Geo {
        /// Two capital letters (ISO 3166-1).
        country_code: Country,
    },
    /// An Access group.
    Group {
        /// The id of a configured group. Groups must not contain themselves.
        id: String,
    },
    /// Membership in a group of an Okta provider, by name, byte for byte.
    Okta {
        /// The name as Okta has it, case included.
        name: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// An attribute of a SAML assertion, byte for byte; one of its values if it has several.
    Saml {
        /// `Name` of the attribute (SAML Core 2.7.3.1), not its `FriendlyName`.
        attribute_name: String,
        /// The whole text of one `AttributeValue`.
        attribute_value: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// A claim of an OpenID provider, byte for byte; one of its values if it has several.
    Oidc {
        /// The name of a claim, one of the provider's `claims`.
        claim_name: String,
        /// The text of the claim, or of one item of an array.
        claim_value: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// A group of Microsoft Entra.
    #[serde(rename = "azureAD")]
    AzureAd {
        /// The object id of the group, a UUID.
        id: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// An organisation of GitHub, and a team in it.
    #[serde(rename = "github-organization")]
    GithubOrganization {
        /// The login name of the organisation, as in its URL.
        name: String,
        /// The team; any if `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        team: Option<String>,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// A group of Google Workspace.
    Gsuite {
        /// The group's address.
        email: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// The identity provider of the login.
    LoginMethod {
        /// The id of a configured identity provider.
        id: IdpId,
    },
    /// An authentication method of the login (`amr`, RFC 8176), byte for byte.
    AuthMethod {
        /// One method, such as `mfa`.
        auth_method: String,
    },
    /// An authentication context of Microsoft Entra.
    AuthContext {
        /// The context's id at Access.
        id: String,
        /// The context's id at Microsoft.
        ac_id: String,
        /// The id of a configured identity provider: the one of the login.
        identity_provider_id: IdpId,
    },
    /// Any valid client certificate.
    Certificate {},
    /// The common name of a valid client certificate, byte for byte.
    CommonName {
        /// The common name (CN) of the certificate's subject.
        common_name: String,
    },
    /// One service token.
    ServiceToken {
        /// The id of a configured service token, which is not its client id.
        token_id: String,
    },
    /// Any service token that is valid.
    AnyValidServiceToken {},
    /// The answer of an external evaluation service at login.
    ExternalEvaluation {
        /// The URL of the service.
        evaluate_url: String,
        /// The keys that the answer is signed with.
        keys_url: String,
    },
    /// The token of another application.
    LinkedAppToken {
        /// That application's id.
        app_uid: String,
    },
    /// The state of a device.
    DevicePosture {
        /// The id of the posture check at Cloudflare.
        integration_uid: String,
    },
    /// The risk score of the user at Cloudflare.
    UserRiskScore {
        /// Any of these levels, such as `low` or `high`.
        user_risk_score: Vec<String>,
    },
    /// A member of a Cloudflare account.
    CloudflareAccountMember {
        /// The id of the account at Cloudflare.
        account_id: String,
    },
    /// The request's method. An extension: Cloudflare Access has nothing like it.
    PortcullisMethod {
        /// Any of these methods, in upper case.
        methods: Vec<Verb>,
    },
    /// The time of day and the day of the week. An extension: Cloudflare Access has nothing like
    /// it.
    PortcullisTime(TimeWindow),
}

/// The subject of a rule, and so the time at which it can be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing: it is true for every request.
    Anybody,
    /// The user: known from the login on, and the same for every request of a session.
    User,
    /// The request: known anew each time.
    Request,
    /// The subjects of the group's rules.
    Group,
    /// Services that do not exist here: always unknown.
    Elsewhere,
}

impl Rule {
    /// Returns the selector's name in the configuration.
    pub const fn selector(&self) -> &'static str {
        self.selector_and_subject().0
    }

    /// Returns the subject of the rule. A bypass is decided before any login, so its rules may not
    /// depend on the user.
    pub const fn about(&self) -> About {
        self.selector_and_subject().1
    }

    /// The table of selectors.
    const fn selector_and_subject(&self) -> (&'static str, About) {
        match self {
            Self::Email { .. } => ("email", About::User),
            Self::EmailDomain { .. } => ("email_domain", About::User),
            Self::EmailList { .. } => ("email_list", About::User),
            Self::Everyone {} => ("everyone", About::Anybody),
            Self::Ip { .. } => ("ip", About::Request),
            Self::IpList { .. } => ("ip_list", About::Request),
            Self::Geo { .. } => ("geo", About::Request),
            Self::Group { .. } => ("group", About::Group),
            Self::Okta { .. } => ("okta", About::User),
            Self::Saml { .. } => ("saml", About::User),
            Self::Oidc { .. } => ("oidc", About::User),
            Self::AzureAd { .. } => ("azureAD", About::Elsewhere),
            Self::GithubOrganization { .. } => ("github-organization", About::Elsewhere),
            Self::Gsuite { .. } => ("gsuite", About::Elsewhere),
            Self::LoginMethod { .. } => ("login_method", About::User),
            Self::AuthMethod { .. } => ("auth_method", About::User),
            Self::AuthContext { .. } => ("auth_context", About::Elsewhere),
            Self::Certificate {} => ("certificate", About::Request),
            Self::CommonName { .. } => ("common_name", About::Request),
            Self::ServiceToken { .. } => ("service_token", About::Request),
            Self::AnyValidServiceToken {} => ("any_valid_service_token", About::Request),
            Self::ExternalEvaluation { .. } => ("external_evaluation", About::User),
            Self::LinkedAppToken { .. } => ("linked_app_token", About::Request),
            Self::DevicePosture { .. } => ("device_posture", About::Elsewhere),
            Self::UserRiskScore { .. } => ("user_risk_score", About::Elsewhere),
            Self::CloudflareAccountMember { .. } => ("cloudflare_account_member", About::Elsewhere),
            Self::PortcullisMethod { .. } => ("portcullis_method", About::Request),
            Self::PortcullisTime(_) => ("portcullis_time", About::Request),
        }
    }
}

/// The effect of a policy that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyDecision {
    /// Allow the user.
    Allow,
    /// Deny the user.
    Deny,
    /// Admit a service client without a login.
    #[serde(rename = "non_identity")]
    ServiceAuth,
    /// No check at all, and no identity.
    Bypass,
}

impl PolicyDecision {
    /// Returns the name in configurations, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::ServiceAuth => "non_identity",
            Self::Bypass => "bypass",
        }
    }
}

/// A policy as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The id. A checked configuration has one for every policy; a policy of one application gets
    /// an id that is derived from the application and the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name in logs, metrics and reviews.
    pub name: String,
    /// The effect if its rules apply.
    pub decision: PolicyDecision,
    /// At least one of these.
    pub include: Vec<Rule>,
    /// And every one of these.
    #[serde(default)]
    pub require: Vec<Rule>,
    /// And none of these.
    #[serde(default)]
    pub exclude: Vec<Rule>,
    /// The lifetime of a session that this policy opens; the application's if `None`.
    #[serde(
        default,
        with = "crate::model::duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub session_duration: Option<Duration>,
    /// Evaluated and counted, never enforced. An extension: Cloudflare Access has nothing like it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// An Access group: rules under a name, for use in policies and in other groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessGroup {
    /// Its id, which rules refer to.
    pub id: String,
    /// The name in reviews.
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

/// The items of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListItems {
    /// Email addresses, for `email_list`.
    Email(Vec<ListItem<String>>),
    /// Addresses and networks, for `ip_list`.
    Ip(Vec<ListItem<IpRange>>),
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListItem<T> {
    /// The email address, or the IP address or network.
    pub value: T,
    /// A note for administrators. No decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
}

/// A list, for rules that would otherwise be very many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Its id, which rules refer to.
    pub id: String,
    /// The name in the dashboard of Access. No decision depends on it.
    pub name: String,
    /// All of one kind, which determines the selector.
    pub items: ListItems,
}

/// The lists and Access groups that the rules of all applications refer to.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedRules<'a> {
    /// The lists.
    pub lists: &'a [List],
    /// The Access groups.
    pub groups: &'a [AccessGroup],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_mapped_addresses_are_ranges_of_ipv4() {
        let net =
            |text: &str| IpRange::try_from(text.to_owned()).map(|range| range.net().to_string());
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
        for refused in [
            "::ffff:0:0/95",
            "::ffff:203.0.113.9/120",
            "::ffff:203.0.113.0/129",
            "::ffff:203.0.113",
        ] {
            assert!(net(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn rule_in_the_json_of_access_round_trips() {
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
