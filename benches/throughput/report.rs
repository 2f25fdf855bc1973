//! Medians and quartiles, the tables, and the last line.

use super::rounds::{Phase, Round};

/// The five-number summary of a sample.
#[derive(Clone, Copy)]
pub(crate) struct Five {
    lowest: f64,
    q1: f64,
    median: f64,
    q3: f64,
    highest: f64,
}

impl Five {
    /// Returns a quantile, interpolated linearly; not a number if there are no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = part * values.len().saturating_sub(1) as f64;
            let value = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
            let (low, high) = (value(place.floor()), value(place.ceil()));
            low + (high - low) * place.fract()
        };
        Self {
            lowest: at(0.0),
            q1: at(0.25),
            median: at(0.5),
            q3: at(0.75),
            highest: at(1.0),
        }
    }

    fn json(self) -> String {
        let number = |n: f64| {
            if n.is_finite() {
                format!("{n:.4}")
            } else {
                "null".to_owned()
            }
        };
        format!(
            "[{},{},{}]",
            number(self.q1),
            number(self.median),
            number(self.q3)
        )
    }

    fn row(self, digits: usize) -> String {
        let Self {
            lowest,
            q1,
            median,
            q3,
            highest,
        } = self;
        format!(
            "{median:9.digits$}  {q1:9.digits$}  {q3:9.digits$}  {lowest:9.digits$}  {highest:9.digits$}"
        )
    }
}

const VARIANTS: [&str; 3] = ["bare", "bare again", "checked"];
const HEADINGS: &str = "   median         q1         q3     lowest    highest";

/// Processor time of the checked proxy over that of the bare one, in the same round.
fn ratio(round: &Round) -> f64 {
    round.checked.nanos_per_request() / round.bare.nanos_per_request()
}

fn noise(round: &Round) -> f64 {
    round.bare_again.nanos_per_request() / round.bare.nanos_per_request()
}

/// Returns the table of one phase.
pub(crate) fn table(phase: &Phase, goal: f64) -> String {
    let kept = || phase.kept();
    let mut text = format!(
        "\n{}: {} rounds, {} left out; load average {} to {}, others' share of the machine median {:.2}, most {:.2}\n",
        phase.name,
        kept().count(),
        phase.left_out(),
        phase.load_before,
        phase.load_after,
        Five::of(phase.rounds.iter().map(|r| r.others)).median,
        Five::of(phase.rounds.iter().map(|r| r.others)).highest,
    );
    let mut section = |title: &str, digits, value: &dyn Fn(&super::rounds::Measure) -> f64| {
        text.push_str(&format!("  {title:<28}{HEADINGS}\n"));
        for (name, of) in VARIANTS.iter().zip(0..) {
            let row = Five::of(kept().map(|round| value(round.variant(of)))).row(digits);
            text.push_str(&format!("    {name:<26}{row}\n"));
        }
    };
    section("processor time/request, µs", 2, &|m| {
        m.nanos_per_request() / 1e3
    });
    section("requests/s", 0, &|m| m.per_second());
    section("latency p50, µs", 0, &|m| m.percentiles[0]);
    section("latency p90, µs", 0, &|m| m.percentiles[1]);
    section("latency p99, µs", 0, &|m| m.percentiles[2]);
    text.push_str(&format!("  {:<28}{HEADINGS}\n", "ratios, per round"));
    let ratios = Five::of(kept().map(ratio));
    let added = |r: &Round| {
        (r.checked.nanos_per_request()
            - (r.bare.nanos_per_request() + r.bare_again.nanos_per_request()) / 2.0)
            / 1e3
    };
    for (name, five) in [
        ("bare again / bare", Five::of(kept().map(noise))),
        ("checked / bare", ratios),
        (
            "checked / bare, none left out",
            Five::of(phase.rounds.iter().map(ratio)),
        ),
        ("added to both bares' mean, µs", Five::of(kept().map(added))),
    ] {
        text.push_str(&format!(
            "    {name:<30}{}\n",
            five.row(3).trim_start_matches("    ")
        ));
    }
    let verdict = match ratios {
        Five { q3, .. } if q3 <= goal => "met",
        Five { q1, .. } if q1 > goal => "missed",
        _ => "not decided",
    };
    text.push_str(&format!("  at most {goal:.2} times bare: {verdict}\n"));
    text
}

/// Returns the last line. `noise` and `left_out` cover both phases; `rounds` is the smaller number
/// of rounds.
pub(crate) fn json(one: &Phase, many: &Phase) -> String {
    format!(
        r#"{{"rounds":{},"left_out":{},"noise":{},"ratio":{},"ratio_100k":{}}}"#,
        one.kept().count().min(many.kept().count()),
        one.left_out() + many.left_out(),
        Five::of(one.kept().chain(many.kept()).map(noise)).json(),
        Five::of(one.kept().map(ratio)).json(),
        Five::of(many.kept().map(ratio)).json(),
    )
}
