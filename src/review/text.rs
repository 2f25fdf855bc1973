use std::fmt;

use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;

use super::ask::World;
use super::diff::{Access, Change, Diff};
use super::suite::{Ended, Failure, Suite};
use super::view::{ApplicationView, PersonView, RequestView, RuleView, Rules, View};
use crate::engine::Outcome;
use crate::model::UnixTime;
use crate::policy::{PolicyDecision, Rule};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const OPEN: Style = AnsiColor::Yellow.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// Writes the answer, then the rules that lead to it. The printer may strip the colours.
impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        writeln!(f)?;
        if let Some(ApplicationView {
            name, domain, over, ..
        }) = &self.application
        {
            write!(f, "  application  {name} ({domain})")?;
            if !over.is_empty() {
                write!(
                    f,
                    ", the most specific match; also covered by {}",
                    over.join(", ")
                )?;
            }
            writeln!(f)?;
        }
        let RequestView {
            url,
            method,
            ip,
            country,
            at,
        } = &self.request;
        write!(f, "  request      {method} {url}")?;
        ip.map_or(Ok(()), |ip| write!(f, " from {ip}"))?;
        country.map_or(Ok(()), |country| write!(f, " in {country}"))?;
        writeln!(f, " at {}", moment(*at))?;
        match &self.person {
            Some(PersonView { email, idp, groups }) => {
                let groups = match groups.as_deref() {
                    None => "groups unknown".to_owned(),
                    Some([]) => "in no group".to_owned(),
                    Some([one]) => format!("group {one}"),
                    Some(many) => format!("{} groups", many.len()),
                };
                writeln!(f, "  user         {email} through {idp}, {groups}")?;
            }
            None => writeln!(f, "  user         not signed in")?,
        }
        for (number, policy) in self.policies.iter().enumerate() {
            let applies = match policy.applies {
                "true" if policy.decides => format!("{GOOD}applies and decides{GOOD:#}"),
                "unknown" if policy.decides => {
                    format!("{OPEN}may apply and therefore decides{OPEN:#}")
                }
                "true" => "applies".to_owned(),
                "false" => format!("{QUIET}does not apply{QUIET:#}"),
                "unknown" => format!("{OPEN}may apply; a fact is unknown{OPEN:#}"),
                "not_evaluated" => format!("{QUIET}not evaluated{QUIET:#}"),
                other => format!("{QUIET}{other}{QUIET:#}"),
            };
            let shadow = if policy.shadow {
                " (shadow: logged only)"
            } else {
                ""
            };
            let decision = word(policy.decision);
            writeln!(
                f,
                "\n  {}. {decision} `{}`{shadow}: {applies}",
                number + 1,
                policy.name
            )?;
            rules(f, &policy.rules)?;
        }
        for group in &self.groups {
            let applies = match group.applies {
                "true" => "member",
                "false" => "not a member",
                "not_evaluated" => "not evaluated",
                other => other,
            };
            writeln!(f, "\n  group `{}`: {applies}", group.id)?;
            rules(f, &group.rules)?;
        }
        Ok(())
    }
}

/// The result of a test: one line, with the difference and its explanation below it.
#[derive(Debug)]
pub struct Line<'a> {
    /// The file of the test.
    pub suite: &'a Suite,
    /// The configuration.
    pub world: &'a World,
    /// The result.
    pub result: &'a Ended,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended {
            name,
            line,
            expected,
            failure,
        } = self.result;
        let Some(failure) = failure else {
            return write!(f, "  {GOOD}✓{GOOD:#} {name}");
        };
        writeln!(
            f,
            "  {BAD}✗ {name}{BAD:#}  {}:{line}",
            self.suite.file().display()
        )?;
        match failure {
            Failure::Malformed(message) => write!(f, "      {message}"),
            Failure::Otherwise(answer, was) => {
                writeln!(f, "      expected {GOOD}{expected}{GOOD:#}")?;
                writeln!(f, "      was      {BAD}{was}{BAD:#}\n")?;
                let walk = View::new(self.world, answer).to_string();
                walk.lines()
                    .try_for_each(|line| writeln!(f, "      {line}"))
            }
        }
    }
}

/// Writes every change, with the users and requests that it affects.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to see a pattern. The total is printed as well.
        const FEW: usize = 20;
        let mut before = "";
        for Change {
            application,
            old,
            new,
            access,
            who,
        } in &self.changes
        {
            if before != application {
                writeln!(f, "{application}")?;
                before = application;
            }
            let (style, what) = match access {
                Access::Gained => (OPEN, "gain access"),
                Access::Lost => (BAD, "lose access"),
                Access::Other => (QUIET, "get a different response"),
            };
            writeln!(f, "  {style}{what}{style:#}: {old} → {new}")?;
            for (who, times) in who.iter().take(FEW) {
                let times = if *times > 1 {
                    format!(" ({times} times)")
                } else {
                    String::new()
                };
                writeln!(f, "      {who}{times}")?;
            }
            match who.len().saturating_sub(FEW) {
                0 => {}
                more => writeln!(f, "      and {more} more (all with `--json`)")?,
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let Self {
            tried,
            same_outcome,
            changes,
            ..
        } = self;
        let changes = match changes.len() {
            0 => format!("{GOOD}no changes{GOOD:#}"),
            1 => "1 change".to_owned(),
            many => format!("{many} changes"),
        };
        let other = match same_outcome {
            0 => String::new(),
            many => format!("; {many} with the same outcome by another policy"),
        };
        writeln!(
            f,
            "{changes} in {tried} combinations of user and request{other}"
        )
    }
}

impl View<'_> {
    /// The answer in one line.
    pub fn headline(&self) -> String {
        let unknown = if self.unknown {
            ", because a fact is unknown"
        } else {
            ""
        };
        let by = |what: &str, style: Style| match self.policy {
            Some(policy) => format!("{style}{what}{style:#} by the policy `{policy}`{unknown}"),
            None => format!("{style}{what}{style:#}: no policy applies{unknown}"),
        };
        let decision = match self.outcome {
            Outcome::Allow => by("ALLOW", GOOD),
            Outcome::Bypass => by("BYPASS", GOOD),
            Outcome::NonIdentity => by("SERVICE AUTH", GOOD),
            Outcome::Deny => by("DENY", BAD),
            Outcome::LogIn if self.person.is_some() => {
                format!("{OPEN}LOG IN{OPEN:#}: the application requires another identity provider")
            }
            Outcome::LogIn => {
                format!("{OPEN}LOG IN{OPEN:#}: the decision depends on the user who signs in")
            }
            Outcome::Handle => {
                format!("{OPEN}HANDLED{OPEN:#}: this is one of the proxy's own endpoints")
            }
            Outcome::Unavailable => {
                format!("{BAD}UNAVAILABLE{BAD:#}: a fact that the decision needs is unknown")
            }
            Outcome::Refuse => {
                format!("{BAD}REFUSED{BAD:#}: {}", self.reason.unwrap_or("internal"))
            }
        };
        match &self.shadow {
            Some(shadow) => {
                format!(
                    "{decision} (the shadow policy `{}` would have decided: {})",
                    shadow.policy, shadow.outcome
                )
            }
            None => decision,
        }
    }
}

/// Returns the decision's name in the configuration.
pub(super) const fn word(decision: PolicyDecision) -> &'static str {
    match decision {
        PolicyDecision::Allow => "allow",
        PolicyDecision::Deny => "deny",
        PolicyDecision::NonIdentity => "non_identity",
        PolicyDecision::Bypass => "bypass",
    }
}

/// Returns a time in UTC, as text.
pub(super) fn moment(at: u64) -> String {
    let moment = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_second(at).ok());
    moment.map_or_else(|| UnixTime(at).to_string(), |moment| moment.to_string())
}

fn rules(f: &mut fmt::Formatter<'_>, rules: &Rules<'_>) -> fmt::Result {
    let Rules {
        include,
        require,
        exclude,
    } = rules;
    for (clause, rules) in [
        ("include", include),
        ("require", require),
        ("exclude", exclude),
    ] {
        for (
            at,
            RuleView {
                rule,
                holds,
                compared,
            },
        ) in rules.iter().enumerate()
        {
            let clause = if at == 0 { clause } else { "" };
            let (style, mark) = match *holds {
                "true" => (GOOD, '✓'),
                "false" => (BAD, '✗'),
                "unknown" => (OPEN, '?'),
                _ => (QUIET, '·'),
            };
            let rule = brief(rule);
            writeln!(
                f,
                "       {clause:<8} {style}{mark}{style:#} {rule:<34} {QUIET}{compared}{QUIET:#}"
            )?;
        }
    }
    Ok(())
}

const PROVIDER: &str = "identity_provider_id";

/// A rule in a few words: the selector and its values.
pub(super) fn brief(rule: &Rule) -> String {
    let json = serde_json::to_value(rule).unwrap_or_default();
    let fields = json
        .as_object()
        .and_then(|rule| rule.values().next())
        .and_then(Value::as_object);
    let mut text = rule.selector().to_owned();
    let mut fields: Vec<_> = fields.into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| *name == PROVIDER);
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            other => other.to_string(),
        };
        let quoted = if value.contains(' ') {
            format!("`{value}`")
        } else {
            value
        };
        let between = if name == PROVIDER { " of " } else { " " };
        text.push_str(between);
        text.push_str(&quoted);
    }
    text
}
