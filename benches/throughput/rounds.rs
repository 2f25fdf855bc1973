//! Rounds: each proxy takes a short turn under the same load.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::{Browsers, Plan};
use super::machine::{Machine, Spent, load};
use super::proxy::Proxy;

/// A proxy and its browsers.
pub(crate) struct Side {
    pub(crate) proxy: Proxy,
    browsers: Browsers,
}

impl Side {
    pub(crate) async fn new(proxy: Proxy) -> Result<Self, Box<dyn Error>> {
        let browsers = Browsers::connect(proxy.port).await?;
        Ok(Self { proxy, browsers })
    }

    /// Sends every token once.
    pub(crate) async fn warm_up(
        &mut self,
        tokens: &Arc<Vec<String>>,
    ) -> Result<(), Box<dyn Error>> {
        tokio::time::timeout(LONGEST, self.browsers.send(tokens, Plan::EachOnce)).await??;
        Ok(())
    }

    pub(crate) async fn measure(
        &mut self,
        tokens: &Arc<Vec<String>>,
        time: Duration,
    ) -> Result<Measure, Box<dyn Error>> {
        let before = Spent::of(self.proxy.pid());
        let begin = Instant::now();
        let plan = Plan::AtRandom(begin + time);
        let mut latencies =
            tokio::time::timeout(LONGEST, self.browsers.send(tokens, plan)).await??;
        let seconds = begin.elapsed().as_secs_f64();
        let spent = Spent::of(self.proxy.pid()).since(&before);
        latencies.sort_unstable();
        let percentile = |part: f64| {
            let place = part * latencies.len().saturating_sub(1) as f64;
            latencies
                .get(place as usize)
                .map_or(f64::NAN, |nanos| f64::from(*nanos) / 1e3)
        };
        let percentiles = [0.5, 0.9, 0.99].map(percentile);
        Ok(Measure {
            requests: latencies.len(),
            seconds,
            spent,
            percentiles,
        })
    }
}

/// The results of one proxy in a round.
pub(crate) struct Measure {
    requests: usize,
    seconds: f64,
    /// The processor time of its process in nanoseconds.
    pub(crate) spent: u64,
    /// p50, p90 and p99 of the latency in microseconds.
    pub(crate) percentiles: [f64; 3],
}

impl Measure {
    pub(crate) fn nanos_per_request(&self) -> f64 {
        self.spent as f64 / self.requests as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// The results of all three proxies in a round.
pub(crate) struct Round {
    pub(crate) bare: Measure,
    pub(crate) bare_again: Measure,
    pub(crate) checked: Measure,
    /// The share of the machine's processor time that other processes used.
    pub(crate) others: f64,
}

impl Round {
    pub(crate) const fn variant(&self, number: usize) -> &Measure {
        match number {
            0 => &self.bare,
            1 => &self.bare_again,
            _ => &self.checked,
        }
    }
}

/// The rounds with one set of sessions.
pub(crate) struct Phase {
    pub(crate) name: String,
    /// All rounds.
    pub(crate) rounds: Vec<Round>,
    /// The limit of `others` for a round to count.
    pub(crate) most_others: f64,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
}

impl Phase {
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Round> {
        self.rounds
            .iter()
            .filter(|round| round.others <= self.most_others)
    }

    pub(crate) fn left_out(&self) -> usize {
        self.rounds.len() - self.kept().count()
    }

    /// Runs rounds until enough are kept, or three times as many were tried.
    pub(crate) async fn run(
        name: String,
        sides: &mut [Side; 3],
        tokens: &Arc<Vec<String>>,
        (wanted, time, most_others): (usize, Duration, f64),
    ) -> Result<Self, Box<dyn Error>> {
        let mut phase = Self {
            name,
            rounds: Vec::new(),
            most_others,
            load_before: load(),
            load_after: String::new(),
        };
        while phase.kept().count() < wanted && phase.rounds.len() < 3 * wanted {
            let order = ORDERS
                .get(phase.rounds.len() % ORDERS.len())
                .copied()
                .unwrap_or([0, 1, 2]);
            phase.rounds.push(round(sides, order, tokens, time).await?);
        }
        phase.load_after = load();
        Ok(phase)
    }
}

async fn round(
    sides: &mut [Side; 3],
    order: [usize; 3],
    tokens: &Arc<Vec<String>>,
    time: Duration,
) -> Result<Round, Box<dyn Error>> {
    let machine = || Machine::now().ok_or("`/proc/stat` cannot be read");
    let (me, before, spent_before) = (
        std::process::id(),
        machine()?,
        Spent::of(std::process::id()),
    );
    let mut measures = [None, None, None];
    for number in order {
        if let (Some(side), Some(place)) = (sides.get_mut(number), measures.get_mut(number)) {
            *place = Some(side.measure(tokens, time).await?);
        }
    }
    let [Some(bare), Some(bare_again), Some(checked)] = measures else {
        return Err("a round is not whole".into());
    };
    let ours = Spent::of(me).since(&spent_before) + bare.spent + bare_again.spent + checked.spent;
    let others = machine()?.others_since(before, ours);
    Ok(Round {
        bare,
        bare_again,
        checked,
        others,
    })
}

/// The orders of turns. Each proxy takes each position equally often, and follows each other proxy
/// equally often.
const ORDERS: [[usize; 3]; 6] = [
    [0, 2, 1],
    [1, 2, 0],
    [2, 0, 1],
    [0, 1, 2],
    [1, 0, 2],
    [2, 1, 0],
];
const LONGEST: Duration = Duration::from_secs(180);
