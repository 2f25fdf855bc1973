use std::fmt;

use clap::builder::styling::{AnsiColor, Style};

use super::ask::World;
use super::diff::{Access, Change, Diff};
use super::suite::{Ended, Failure, Suite};
use super::view::{
    ApplicationView, Holds, PersonView, PolicyView, RequestView, RuleView, Rules, View,
};
use super::words::{brief, moment};
use crate::engine::Outcome;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const OPEN: Style = AnsiColor::Yellow.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// Writes the answer, then the rules that lead to it. The printer may strip the colours.
impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        writeln!(f)?;
        if let Some(application) = &self.application {
            writeln!(f, "  application  {application}")?;
        }
        writeln!(f, "  request      {}", self.request)?;
        match &self.person {
            Some(person) => writeln!(f, "  user         {person}")?,
            None => writeln!(f, "  user         not signed in")?,
        }
        for (number, policy) in self.policies.iter().enumerate() {
            writeln!(f, "\n  {}. {policy}", number + 1)?;
            rules(f, &policy.rules)?;
        }
        for group in &self.groups {
            let applies = match group.applies {
                Holds::True => "member",
                Holds::False => "not a member",
                Holds::Unknown => "unknown",
                Holds::NotEvaluated => "not evaluated",
            };
            writeln!(f, "\n  group `{}`: {applies}", group.id)?;
            rules(f, &group.rules)?;
        }
        Ok(())
    }
}

impl fmt::Display for ApplicationView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.domain)?;
        if self.over.is_empty() {
            return Ok(());
        }
        let over = self.over.join(", ");
        write!(f, ", the most specific match; also covered by {over}")
    }
}

impl fmt::Display for RequestView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)?;
        self.ip.map_or(Ok(()), |ip| write!(f, " from {ip}"))?;
        self.country
            .map_or(Ok(()), |country| write!(f, " in {country}"))?;
        write!(f, " at {}", moment(self.at))
    }
}

impl fmt::Display for PersonView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} through {}, ", self.email, self.idp)?;
        match self.groups.as_deref() {
            None => f.write_str("groups unknown"),
            Some([]) => f.write_str("in no group"),
            Some([one]) => write!(f, "group {one}"),
            Some(many) => write!(f, "{} groups", many.len()),
        }
    }
}

/// Writes the policy and its result, without its rules.
impl fmt::Display for PolicyView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (style, applies) = match self.applies {
            Holds::True if self.decides => (GOOD, "applies and decides"),
            Holds::Unknown if self.decides => (OPEN, "may apply and therefore decides"),
            Holds::True => (Style::new(), "applies"),
            Holds::False => (QUIET, "does not apply"),
            Holds::Unknown => (OPEN, "may apply; a fact is unknown"),
            Holds::NotEvaluated => (QUIET, "not evaluated"),
        };
        let shadow = if self.shadow {
            " (shadow: logged only)"
        } else {
            ""
        };
        let decision = self.decision.as_str();
        write!(
            f,
            "{decision} `{}`{shadow}: {style}{applies}{style:#}",
            self.name
        )
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
    /// Returns the answer in one line.
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
            Outcome::ServiceAuth => by("SERVICE AUTH", GOOD),
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
            let (style, mark) = match holds {
                Holds::True => (GOOD, '✓'),
                Holds::False => (BAD, '✗'),
                Holds::Unknown => (OPEN, '?'),
                Holds::NotEvaluated => (QUIET, '·'),
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
