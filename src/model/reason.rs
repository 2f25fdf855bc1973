use std::fmt;

/// The reason why a request was not forwarded. Its id is on pages, in logs and in metrics; it never
/// changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The path is not one that every origin would read in the same way.
    PathAmbiguous,
    /// The host is missing or malformed.
    HostMalformed,
    /// The host was named with a port that this team is not served on.
    PortUnknown,
    /// `TRACE`, `CONNECT`, a method that is not a token, or a query parameter that overrides
    /// the method, if a policy depends on it.
    MethodRefused,
    /// A target beyond the limit.
    TargetTooLong,
    /// Headers beyond the limit.
    HeadersTooLarge,
    /// A body beyond the application's limit.
    BodyTooLarge,
    /// No application claims this host and path.
    NoApplication,
    /// No credential was presented.
    NoSession,
    /// The credential's time is over.
    SessionExpired,
    /// The credential was signed out or revoked.
    SessionRevoked,
    /// The credential is not one of ours, is not for this application, or was tampered with.
    SessionInvalid,
    /// Cookies of different logins came together, each with a valid token for this application:
    /// neither is used.
    SessionConflict,
    /// The service token's id or secret is wrong, one of the two is missing, or one of them
    /// occurs twice.
    ServiceTokenInvalid,
    /// The service token is right, and its time is over.
    ServiceTokenExpired,
    /// The service token is right, and was disabled.
    ServiceTokenDisabled,
    /// The application admits service clients only, and the request has no credential that it
    /// accepts.
    ServiceAuthRequired,
    /// A policy that denies applied.
    PolicyDenied,
    /// No policy applied, so the request is denied.
    NoPolicyApplied,
    /// The signing keys of the team are not known, or too old to be trusted.
    KeysUnavailable,
    /// The revocations of other nodes could not be fetched for too long.
    RevocationsUnavailable,
    /// The identity record that the policies depend on cannot be fetched now.
    IdentityUnavailable,
    /// A fact that the policies depend on is unknown: groups that the identity provider omitted,
    /// the country of an IP address, the answer of an external evaluation service.
    IdentityIncomplete,
    /// A cross-origin preflight that the application has no answer for.
    PreflightRefused,
    /// The check could not be completed.
    Internal,
}

impl Reason {
    /// The id.
    pub const fn id(self) -> &'static str {
        match self {
            Self::PathAmbiguous => "path_ambiguous",
            Self::HostMalformed => "host_malformed",
            Self::PortUnknown => "port_unknown",
            Self::MethodRefused => "method_refused",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::NoApplication => "no_application",
            Self::NoSession => "no_session",
            Self::SessionExpired => "session_expired",
            Self::SessionRevoked => "session_revoked",
            Self::SessionInvalid => "session_invalid",
            Self::SessionConflict => "session_conflict",
            Self::ServiceTokenInvalid => "service_token_invalid",
            Self::ServiceTokenExpired => "service_token_expired",
            Self::ServiceTokenDisabled => "service_token_disabled",
            Self::ServiceAuthRequired => "service_auth_required",
            Self::PolicyDenied => "policy_denied",
            Self::NoPolicyApplied => "no_policy_applied",
            Self::KeysUnavailable => "keys_unavailable",
            Self::RevocationsUnavailable => "revocations_unavailable",
            Self::IdentityUnavailable => "identity_unavailable",
            Self::IdentityIncomplete => "identity_incomplete",
            Self::PreflightRefused => "preflight_refused",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
