use jiff::Timestamp;
use roxmltree::Node;

use super::error::{NO_END, one_line};
use super::tree::{self, ASSERTION};
use super::{Expected, Reauthentication, SamlError, ServiceProvider};
use crate::model::UnixTime;

/// The checks of an assertion against the time, the request and the service provider.
pub(super) struct Validity<'a> {
    expected: &'a Expected<'a>,
}

impl<'a> Validity<'a> {
    pub(super) const fn new(expected: &'a Expected<'a>) -> Self {
        Self { expected }
    }

    /// Returns an error if the assertion was issued in the future.
    pub(super) fn check_issue(&self, assertion: Node<'_, '_>) -> Result<(), SamlError> {
        self.check_start(time(assertion, "IssueInstant")?.ok_or(SamlError::Shape(UNDATED))?)
    }

    fn check_start(&self, time: UnixTime) -> Result<(), SamlError> {
        let now = self.expected.now;
        let behind = SamlError::NotYetValid {
            seconds: time.since(now).as_secs(),
        };
        if time <= now.after(self.expected.leeway()) {
            Ok(())
        } else {
            Err(behind)
        }
    }

    fn check_end(&self, time: UnixTime) -> Result<(), SamlError> {
        let now = self.expected.now;
        let over = SamlError::Expired {
            seconds: now.since(time).as_secs(),
        };
        if time.after(self.expected.leeway()) > now {
            Ok(())
        } else {
            Err(over)
        }
    }

    fn check_window(
        &self,
        node: Node<'_, '_>,
        missing_end: &'static str,
    ) -> Result<UnixTime, SamlError> {
        let end = time(node, "NotOnOrAfter")?.ok_or(SamlError::Bearer(missing_end))?;
        if let Some(start) = time(node, "NotBefore")? {
            self.check_start(start)?;
        }
        self.check_end(end)?;
        Ok(end)
    }

    /// Checks the subject confirmations (SAML Profiles 4.1.4.2) and returns the end of a valid one.
    /// A bearer confirmation must name this ACS and this request, and must not have expired.
    /// One valid confirmation is enough.
    pub(super) fn confirmation(
        &self,
        subject: Node<'_, '_>,
        provider: &ServiceProvider,
    ) -> Result<UnixTime, SamlError> {
        let confirm = |node: Node<'_, '_>| -> Result<UnixTime, SamlError> {
            let [data] = tree::sequence(
                node,
                [(ASSERTION, "SubjectConfirmationData")],
                "a confirmation has unexpected elements",
            )?;
            let data = data.ok_or(SamlError::Bearer("its confirmation has no data"))?;
            match data.attribute("InResponseTo") {
                Some(id) if id == self.expected.request_id => {}
                Some(_) => return Err(SamlError::Request),
                // Without `InResponseTo` anyone could log a browser in with an assertion of their
                // own.
                None => return Err(SamlError::Unsolicited),
            }
            match data.attribute("Recipient") {
                Some(recipient) if recipient == provider.acs() => {}
                other => return Err(SamlError::Recipient(one_line(other.unwrap_or_default()))),
            }
            self.check_window(data, NO_END[0])
        };
        let bearers = tree::elements(subject)?
            .into_iter()
            .filter(|node| node.attribute("Method") == Some(BEARER));
        let mut outcome = Err(SamlError::Bearer("it has no bearer confirmation"));
        for bearer in bearers {
            outcome = confirm(bearer);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Checks the conditions (SAML Core 2.5.1) and returns their end.
    pub(super) fn conditions(
        &self,
        node: Node<'_, '_>,
        provider: &ServiceProvider,
    ) -> Result<UnixTime, SamlError> {
        let end = self.check_window(node, NO_END[1])?;
        let mut restricted = false;
        for condition in tree::elements(node)? {
            if tree::is(condition, ASSERTION, "AudienceRestriction") {
                let audiences = tree::all_named(
                    condition,
                    ASSERTION,
                    "Audience",
                    "an audience restriction has unexpected elements",
                )?;
                let audiences = audiences
                    .into_iter()
                    .map(tree::text)
                    .collect::<Result<Vec<_>, _>>()?;
                if !audiences
                    .iter()
                    .any(|audience| audience == provider.entity_id())
                {
                    return Err(SamlError::Audience(one_line(
                        audiences.first().map_or("", String::as_str),
                    )));
                }
                restricted = true;
            } else if !tree::is(condition, ASSERTION, "OneTimeUse")
                && !tree::is(condition, ASSERTION, "ProxyRestriction")
            {
                // An unknown condition makes the assertion's validity indeterminate (SAML Core
                // 2.5.1).
                return Err(SamlError::Condition);
            }
        }
        // `OneTimeUse` and `ProxyRestriction` always hold: assertions are neither cached nor used
        // to issue other assertions. An assertion without an audience is for any service provider
        // (SAML Core 2.5.1.4), and another one could replay it here.
        if restricted {
            Ok(end)
        } else {
            Err(SamlError::Bearer("it names no audience"))
        }
    }

    /// Checks the authentication statements (SAML Core 2.7.2) and returns the earliest end of the
    /// provider's session, if one is stated.
    pub(super) fn session(
        &self,
        statements: &[Node<'_, '_>],
    ) -> Result<Option<UnixTime>, SamlError> {
        if statements.is_empty() {
            return Err(SamlError::Bearer("it has no authentication statement"));
        }
        let mut session_ends: Option<UnixTime> = None;
        for statement in statements {
            let at = time(*statement, "AuthnInstant")?.ok_or(SamlError::Shape(UNDATED))?;
            if self.expected.reauthentication == Reauthentication::Required
                && at.after(self.expected.leeway()) < self.expected.requested_at
            {
                return Err(SamlError::NotFresh);
            }
            if let Some(end) = time(*statement, "SessionNotOnOrAfter")? {
                // No leeway here: a session that has already ended cannot become one of ours.
                if end <= self.expected.now {
                    return Err(SamlError::SessionOver);
                }
                session_ends = Some(session_ends.map_or(end, |earlier| earlier.min(end)));
            }
        }
        Ok(session_ends)
    }
}

/// Reads a time in UTC (SAML Core 1.3.3), truncated to seconds.
fn time(node: Node<'_, '_>, name: &str) -> Result<Option<UnixTime>, SamlError> {
    let Some(text) = node.attribute(name) else {
        return Ok(None);
    };
    let parsed = text
        .parse::<Timestamp>()
        .ok()
        // The parser also accepts a space or a lower-case `t` between date and time, which XML
        // Schema does not.
        .filter(|_| text.len() <= 40 && text.contains('T'));
    let seconds = parsed.and_then(|time| u64::try_from(time.as_second()).ok());
    seconds
        .map(|seconds| Some(UnixTime(seconds)))
        .ok_or(SamlError::Shape("a time is malformed"))
}

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const UNDATED: &str = "a time is missing";
