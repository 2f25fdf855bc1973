//! The cost of the Access check in the proxy: compares the same Pingora proxy with and without the
//! check, over loopback.
//!
//! `cargo bench --bench throughput` takes about six minutes. With `-- --quick` it takes about one,
//! with fewer sessions and rounds, for a rough result. Other options: `--rounds 24`, `--seconds 1.2`
//! (for each proxy in each round), `--sessions 100000`, `--others 0.1`. `--instructions` counts
//! instructions with callgrind instead, if valgrind is installed. The count excludes the kernel, but
//! is nearly the same in each run, even on a busy machine.
//!
//! Three processes of this program are proxies with one worker thread each, on core 0 if `taskset`
//! is installed: one bare, a second bare one to measure the noise, and the product with its own
//! store, keys and endpoints. This process, on core 1, is the origin (1 KiB) and 32 keep-alive
//! connections of plain HTTP/1.1. All proxies receive the same tokens in the same order. In a round
//! each proxy takes a turn, in alternating order. The result is the processor time per request, user
//! and system, of the proxy's process with all its threads. Ratios are computed within a round.
//!
//! The rule for excluding rounds was fixed before the first measurement. A round does not count if
//! other processes (or the host) took more than `--others` of the machine's processor time. At most
//! three times the requested rounds are run. The report states the number of excluded rounds, and
//! the ratio over all rounds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

#[path = "throughput/instructions.rs"]
mod instructions;
#[path = "throughput/load.rs"]
mod load;
#[path = "throughput/machine.rs"]
mod machine;
#[path = "throughput/people.rs"]
mod people;
#[path = "throughput/proxy.rs"]
mod proxy;
#[path = "throughput/report.rs"]
mod report;
#[path = "throughput/rounds.rs"]
mod rounds;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::control::SigningKeys;
use portcullis::model::{IdentityNonce, UnixTime};
use portcullis::store::{KeyRepository as _, MemoryStore, StoredKey};

use load::Origin;
use people::{OUTSIDER, Person};
use proxy::Proxy;
use rounds::{Phase, Side};

/// The allocator of the `portcullis` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GOAL: f64 = 1.03;
const GOAL_MANY: f64 = 1.10;

struct Options {
    rounds: usize,
    time: Duration,
    sessions: usize,
    others: f64,
    instructions: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "proxy" => {
            // As in the binary. The error (already installed) cannot occur here.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            proxy::run(rest)
        }
        // Without `--bench`, a test run only checks that the benchmark builds.
        _ if !arguments.iter().any(|a| a == "--bench") => Ok(()),
        _ => options(&arguments).and_then(|options| bench(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, Box<dyn Error>> {
    let quick = arguments.iter().any(|a| a == "--quick");
    let number = |name: &str, otherwise: f64| match arguments.iter().position(|a| a == name) {
        Some(at) => arguments
            .get(at + 1)
            .ok_or(format!("`{name}` needs a number"))?
            .parse()
            .map_err(|e| format!("`{name}`: {e}")),
        None => Ok::<f64, String>(otherwise),
    };
    let (rounds, seconds, sessions) = if quick {
        (6.0, 0.5, 2_000.0)
    } else {
        (24.0, 1.2, 100_000.0)
    };
    Ok(Options {
        rounds: number("--rounds", rounds)? as usize,
        time: Duration::from_secs_f64(number("--seconds", seconds)?),
        sessions: number("--sessions", sessions)? as usize,
        others: number("--others", 0.1)?,
        instructions: arguments.iter().any(|a| a == "--instructions"),
    })
}

/// The results of logins: keys, users and tokens. The last user is in no group.
struct World {
    keys: Vec<StoredKey>,
    people: Vec<Person>,
    tokens: Vec<String>,
}

async fn world(sessions: usize) -> Result<World, Box<dyn Error>> {
    let store = MemoryStore::new();
    let signing =
        SigningKeys::load_or_create(&store, Duration::ZERO, UnixTime::now(), UnixTime::now())
            .await?;
    let config = people::config(80, 81)?;
    let aud = &config
        .catalog
        .applications
        .first()
        .ok_or("no application")?
        .aud;
    let numbers = (0..sessions).chain([OUTSIDER]);
    let people: Vec<_> = numbers
        .map(|number| Person {
            nonce: IdentityNonce::random(),
            number,
        })
        .collect();
    let told = |done: usize| {
        if done.is_multiple_of(20_000) {
            eprintln!("signed {done} of {} tokens", people.len());
        }
    };
    let tokens = people::tokens(&signing, &config, aud, &people, told)?;
    Ok(World {
        keys: store.signing_keys().await?,
        people,
        tokens,
    })
}

fn bench(options: &Options) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if options.instructions {
            return instructions::count(&world(1).await?).await;
        }
        let World { keys, people, mut tokens } = world(options.sessions).await?;
        let outsider = tokens.pop().ok_or("no outsider")?;
        let pin = machine::can_pin();
        let wrapper = if pin { ["taskset", "-c", "0"].map(str::to_owned).to_vec() } else { Vec::new() };
        if pin {
            machine::pin_me();
        }
        let origin = Origin::start().await?;
        let bare = Proxy::start(origin.port, None, &wrapper)?;
        let bare_again = Proxy::start(origin.port, None, &wrapper)?;
        let checked = Proxy::start(origin.port, Some((&keys, &people)), &wrapper)?;
        let one = Arc::new(vec![tokens.first().ok_or("no tokens")?.clone()]);
        prove(checked.port, &origin, &one, &outsider).await?;
        let many = Arc::new(tokens);
        println!(
            "{} rounds of {:?} for each proxy, a token of {} bytes, 20 groups, pinned: {pin}; a round is left out above {} of others",
            options.rounds,
            options.time,
            one.first().map_or(0, String::len),
            options.others,
        );
        let mut sides = [Side::new(bare).await?, Side::new(bare_again).await?, Side::new(checked).await?];
        for side in &mut sides {
            side.measure(&one, options.time).await?;
        }
        memory("with one session in use", &sides);
        let wanted = (options.rounds, options.time, options.others);
        let first = Phase::run("1 session".to_owned(), &mut sides, &one, wanted).await?;
        println!("{}", report::table(&first, GOAL));
        for side in &mut sides {
            let begin = Instant::now();
            side.warm_up(&many).await?;
            eprintln!("sent each of {} tokens once in {:.1} s", many.len(), begin.elapsed().as_secs_f64());
            side.measure(&many, options.time).await?;
        }
        memory(&format!("with {} sessions, all seen", many.len()), &sides);
        let second = Phase::run(format!("{} sessions, all seen", many.len()), &mut sides, &many, wanted).await?;
        println!("{}", report::table(&second, GOAL_MANY));
        println!("{}", report::json(&first, &second));
        Ok(())
    })
}

fn memory(when: &str, sides: &[Side; 3]) {
    let [bare, _, checked] = sides
        .each_ref()
        .map(|side| machine::memory(side.proxy.pid()));
    println!(
        "memory {when}: bare {bare} MiB, checked {checked} MiB (with the store, which is in its memory here)"
    );
}

/// Verifies that the check works: it denies requests without access, and none of them reaches the
/// origin.
async fn prove(
    port: u16,
    origin: &Origin,
    one: &[String],
    outsider: &str,
) -> Result<(), Box<dyn Error>> {
    let good = one.first().ok_or("no tokens")?;
    let middle = good.rfind('.').map_or(0, |dot| dot + 20);
    let broken: String = good
        .char_indices()
        .map(|(at, c)| {
            if at == middle {
                if c == 'A' { 'B' } else { 'A' }
            } else {
                c
            }
        })
        .collect();
    for (what, token, status) in [
        ("no cookie", None, "302"),
        ("a broken signature", Some(broken.as_str()), "302"),
        ("somebody in none of the groups", Some(outsider), "403"),
    ] {
        let head = load::ask(port, token).await?;
        if !head.starts_with(&format!("HTTP/1.1 {status}")) || origin.seen().0 != 0 {
            return Err(format!("{what} was not refused with {status}: {head}").into());
        }
        println!("{what}: {status}, nothing at the origin");
    }
    let head = load::ask(port, Some(good)).await?;
    let (requests, received) = origin.seen();
    let received = received.to_ascii_lowercase();
    let assertion = format!("cf-access-jwt-assertion: {}\r\n", good.to_ascii_lowercase());
    let forwarded = received.contains(&assertion)
        && received.contains("cf-access-authenticated-user-email: person.000000@example.com\r\n")
        && received.contains("cookie: theme=dark\r\n");
    if !head.starts_with("HTTP/1.1 200") || requests != 1 || !forwarded {
        return Err(format!(
            "a good session did not reach the origin as it should: {head}\n{received}"
        )
        .into());
    }
    println!(
        "a good session: 200, the origin got assertion, address, and the application's cookie alone"
    );
    Ok(())
}
