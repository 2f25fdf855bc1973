//! The `portcullis test` command: a suite of expected decisions.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portcullis::model::UnixTime;
use portcullis::review::{self, Suite, World};

use super::{failed, load};

#[derive(Args)]
pub(crate) struct Test {
    /// Test files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The configuration file [default: the one that the test file names, or portcullis.toml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write a JUnit XML report to FILE.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Exits with 0 if all tests pass, with 1 if any fails, and with 2 if they could not be run.
pub(crate) fn run(command: Test) -> ExitCode {
    match run_suites(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => failed(&message),
    }
}

/// Returns `true` if all tests pass.
fn run_suites(command: Test) -> Result<bool, String> {
    let Test {
        files,
        config,
        junit,
    } = command;
    let suites = files
        .iter()
        .map(|file| Suite::read(file))
        .collect::<Result<Vec<_>, _>>()?;
    let mut worlds: BTreeMap<PathBuf, (World, HashSet<(String, String)>)> = BTreeMap::new();
    let of = |suite: &Suite| {
        config
            .clone()
            .or_else(|| suite.config())
            .unwrap_or_else(|| "portcullis.toml".into())
    };
    for file in suites.iter().map(of) {
        if !worlds.contains_key(&file) {
            worlds.insert(file.clone(), (load(&file)?, HashSet::new()));
        }
    }
    let now = UnixTime::now();
    let (mut ended, mut passed, mut failed) = (Vec::new(), 0, 0);
    for suite in &suites {
        let Some((world, decided)) = worlds.get_mut(&of(suite)) else {
            continue;
        };
        anstream::println!("{}", suite.file().display());
        let results = suite.run(world, now, decided);
        for result in &results {
            if result.failure.is_none() {
                passed += 1
            } else {
                failed += 1
            }
            anstream::println!(
                "{}",
                review::Line {
                    suite,
                    world,
                    result
                }
            );
        }
        ended.push((suite, results));
    }
    for (world, decided) in worlds.values() {
        for (application, policy) in review::untested(world, decided) {
            anstream::println!(
                "note: no test of `{application}` is decided by the policy `{policy}`"
            );
        }
    }
    if let Some(file) = junit {
        let world = |suite: &Suite| worlds.get(&of(suite)).map(|(world, _)| world);
        let report = ended
            .into_iter()
            .filter_map(|(suite, ended)| Some((suite, world(suite)?, ended)));
        let report = review::junit(&report.collect::<Vec<_>>())?;
        std::fs::write(&file, report)
            .map_err(|e| format!("cannot write `{}`: {e}", file.display()))?;
    }
    anstream::println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
