//! The callback of a login: from the authorization code to the user's identity.

use tracing::{info, warn};

use super::Oidc;
use crate::idp::failure::{EmailFailure, GroupsFailure, LoginFailure};
use crate::idp::okta::named_groups;
use crate::idp::{CallbackContext, GroupsMissing, Pending, ProviderIdentity};
use crate::model::{
    AbsentGroups, Email, Groups, GroupsSeen, GroupsSource, Secret, UnixTime, is_groups,
};
use crate::oidc::{
    self, Absence, Callback, ClaimedEmail, ClaimedGroups, EmailVerification, Grant, GroupsClaim,
    MergedClaims, UserClaims, VerifiedIdToken,
};
use crate::policy::is_comparable;

/// The documents of a login, verified.
struct VerifiedDocuments {
    id_token: VerifiedIdToken,
    /// `None` if the provider has no userinfo endpoint.
    userinfo: Option<UserClaims>,
    grant: Grant,
    /// The ID token as it was received, for a logout at the provider.
    raw: Secret,
}

impl Oidc {
    /// Completes the login of `state` and `pending`, with one call of the token endpoint and one of
    /// the userinfo endpoint.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub async fn finish(
        &self,
        state: &Secret,
        pending: &Pending,
        callback: &Callback,
        context: CallbackContext,
    ) -> Result<ProviderIdentity, LoginFailure> {
        // RFC 9700 2.1: the flow records its provider, so a callback cannot be replayed to another
        // one.
        if pending.idp != self.settings.id || pending.issuer != self.documents.issuer() {
            return Err(LoginFailure::Flow);
        }
        let verified = self.redeem(state, pending, callback, context).await?;
        let claimed = self.merge(&verified);
        self.log_unusable_claims(&claimed);
        let email = self.email(&claimed, &verified.grant)?;
        let (groups, missing) = self.interpret_groups(claimed.groups.clone(), &verified);
        // Okta could not fill the claim, so its value now is incomplete.
        let groups = if pending.attempt.without_groups {
            ClaimedGroups::Elsewhere
        } else {
            groups
        };
        let (groups, groups_seen) = self
            .read_groups(groups, &claimed, context.now)
            .await
            .map_err(LoginFailure::Groups)?;
        let missing = missing
            .filter(|missing| groups == Groups::Unknown || *missing == GroupsMissing::TakenAsNone);
        let mut claims = claimed.claims;
        groups.write_to(&mut claims);
        Ok(ProviderIdentity {
            subject: claimed.subject,
            email,
            name: claimed.name,
            idp: self.idp_ref(),
            groups,
            groups_seen,
            groups_missing: missing,
            amr: claimed.amr,
            claims,
            headers: Vec::new(),
            at: context.now,
            ip: context.client_ip,
            session_ends: None,
            id_token: self.settings.provider_logout.then_some(verified.raw),
        })
    }

    /// Exchanges the code of the callback, and verifies the ID token and the userinfo response.
    async fn redeem(
        &self,
        state: &Secret,
        pending: &Pending,
        callback: &Callback,
        context: CallbackContext,
    ) -> Result<VerifiedDocuments, LoginFailure> {
        let metadata = self.documents.metadata().await?;
        // `state` and issuer come first, so that a code of another login is never sent to the
        // provider.
        let code = callback.code(state, metadata.response_issuer())?;
        let tokens = self.exchange(&metadata, code, pending, context.now).await?;
        let expected = self.expected(&metadata, &tokens, pending, context);
        // Before userinfo: its `sub` is compared with that of the verified token.
        let id_token = self.verify(&metadata, &tokens, &expected).await?;
        let userinfo = self
            .userinfo(&metadata, &tokens, &id_token, &expected)
            .await?;
        let grant = Grant::new(
            &self.scopes(pending.attempt),
            &tokens.scopes,
            pending.pushed_scopes.as_deref(),
        );
        Ok(VerifiedDocuments {
            id_token,
            userinfo,
            grant,
            raw: Secret::new(tokens.id_token),
        })
    }

    fn merge(&self, verified: &VerifiedDocuments) -> MergedClaims {
        let absence = match verified.userinfo {
            // Only then does a missing claim prove that the user lacks it. Otherwise a deny rule
            // about it stays unknown.
            Some(_) if verified.grant.is_complete() => Absence::Proven,
            _ => Absence::Unproven,
        };
        oidc::merge(
            &verified.id_token,
            verified.userinfo.as_ref(),
            self.settings.email_claim_name.as_deref().unwrap_or("email"),
            &self.groups_claim,
            &self.settings.claims,
            absence,
        )
    }

    fn log_unusable_claims(&self, claimed: &MergedClaims) {
        let idp = &*self.settings.id.0;
        for claim in &claimed.unreadable {
            warn!(idp = %idp, claim, "ignoring an unreadable claim; its value is unknown");
        }
        let incomparable = claimed
            .claims
            .iter()
            .filter(|(name, value)| !is_groups(name) && !is_comparable(value));
        for (claim, _) in incomparable {
            warn!(idp = %idp, claim, "a claim contains a value that rules cannot compare; rules about it are unknown");
        }
        for claim in &claimed.unproven {
            info!(idp = %idp, claim, "{ABSENCE_UNPROVEN}");
        }
    }

    fn email(&self, claimed: &MergedClaims, grant: &Grant) -> Result<Email, LoginFailure> {
        let text = match &claimed.email {
            ClaimedEmail::Claimed(text) => text,
            ClaimedEmail::Absent => return Err(LoginFailure::Email(EmailFailure::Missing)),
            ClaimedEmail::Unreadable => return Err(LoginFailure::Email(EmailFailure::Unreadable)),
        };
        let shown = || oidc::one_line(text, LONGEST_ADDRESS);
        // Okta vouches for the addresses of its directory and does not have to send
        // `email_verified`.
        match (claimed.email_verified, self.settings.email_verified) {
            (None, EmailVerification::Optional) if grant.lacks(EMAIL_SCOPE) => {
                return Err(LoginFailure::Email(EmailFailure::ScopeNotGranted));
            }
            (Some(true), _) | (None, EmailVerification::Optional) => {}
            // An address that the provider did not verify may be that of another user.
            (Some(false), _) => return Err(LoginFailure::Email(EmailFailure::Unverified(shown()))),
            (None, EmailVerification::Required) => {
                return Err(LoginFailure::Email(EmailFailure::Unconfirmed(shown())));
            }
        }
        Email::parse(text).map_err(|error| LoginFailure::Email(error.into()))
    }

    /// Returns the reason why the claims hold no groups, and applies `absent_groups` if neither
    /// document has the claim.
    fn interpret_groups(
        &self,
        groups: ClaimedGroups,
        verified: &VerifiedDocuments,
    ) -> (ClaimedGroups, Option<GroupsMissing>) {
        let userinfo = verified.userinfo.as_ref();
        let mut documents = [Some(&verified.id_token.claims), userinfo]
            .into_iter()
            .flatten();
        let left_out = documents.any(GroupsClaim::are_omitted_from);
        let missing = match groups {
            ClaimedGroups::Claimed(_) => return (groups, None),
            ClaimedGroups::Elsewhere => GroupsMissing::Reference,
            ClaimedGroups::Absent | ClaimedGroups::Unreadable if left_out => {
                GroupsMissing::Reference
            }
            ClaimedGroups::Unreadable => GroupsMissing::Unreadable,
            ClaimedGroups::Absent if self.absent_groups == AbsentGroups::Unknown => {
                GroupsMissing::LeftOut
            }
            ClaimedGroups::Absent if userinfo.is_none() => GroupsMissing::NoUserinfo,
            ClaimedGroups::Absent if !verified.grant.is_complete() => {
                GroupsMissing::ScopeNotGranted
            }
            ClaimedGroups::Absent => {
                return (
                    ClaimedGroups::Claimed(Vec::new()),
                    Some(GroupsMissing::TakenAsNone),
                );
            }
        };
        (groups, Some(missing))
    }

    /// Returns the groups from Okta's API if there is one, else those of the claims.
    async fn read_groups(
        &self,
        groups: ClaimedGroups,
        claimed: &MergedClaims,
        now: UnixTime,
    ) -> Result<(Groups, Option<GroupsSeen>), GroupsFailure> {
        match &self.directory {
            Some(directory) => {
                directory
                    .groups(groups, claimed.groups_source, &claimed.subject, now)
                    .await
            }
            None => Ok(claimed_groups(groups, claimed.groups_source, now)),
        }
    }
}

/// Returns the groups of a provider without an API: claimed groups are complete, and others are
/// unknown.
fn claimed_groups(
    claimed: ClaimedGroups,
    source: GroupsSource,
    now: UnixTime,
) -> (Groups, Option<GroupsSeen>) {
    match claimed {
        ClaimedGroups::Claimed(names) => named_groups(names, source, now),
        ClaimedGroups::Elsewhere | ClaimedGroups::Absent | ClaimedGroups::Unreadable => {
            (Groups::Unknown, None)
        }
    }
}

/// RFC 5321 4.5.3.1.3, without the angle brackets.
const LONGEST_ADDRESS: usize = 254;

/// The scope of the claims `email` and `email_verified` (OpenID Connect Core 5.4).
const EMAIL_SCOPE: &str = "email";
const ABSENCE_UNPROVEN: &str = "the claim is unknown: it is absent, and there is no userinfo response or not every \
                                requested scope is known to be granted";
