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
    /// The configuration file [default: the file named in the test file, or portcullis.toml].
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

/// A configuration, and the applications and policies that tests have decided with it.
type Tested = (World, HashSet<(String, String)>);

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
    let config_of = |suite: &Suite| {
        config
            .clone()
            .or_else(|| suite.config())
            .unwrap_or_else(|| "portcullis.toml".into())
    };
    let mut worlds: BTreeMap<PathBuf, Tested> = BTreeMap::new();
    for file in suites.iter().map(config_of) {
        if !worlds.contains_key(&file) {
            worlds.insert(file.clone(), (load(&file)?, HashSet::new()));
        }
    }
    let now = UnixTime::now();
    let mut ended = Vec::new();
    for suite in &suites {
        if let Some(tested) = worlds.get_mut(&config_of(suite)) {
            ended.push((suite, run_suite(suite, tested, now)));
        }
    }
    print_untested(worlds.values());
    let results = ended.iter().flat_map(|(_, results)| results);
    let total = results.clone().count();
    let failed = results.filter(|result| result.failure.is_some()).count();
    if let Some(file) = junit {
        let world = |suite: &Suite| worlds.get(&config_of(suite)).map(|(world, _)| world);
        let report = ended
            .into_iter()
            .filter_map(|(suite, ended)| Some((suite, world(suite)?, ended)));
        let report = review::junit(&report.collect::<Vec<_>>())?;
        std::fs::write(&file, report)
            .map_err(|e| format!("cannot write `{}`: {e}", file.display()))?;
    }
    anstream::println!("{} passed, {failed} failed", total - failed);
    Ok(failed == 0)
}

/// Runs the tests of one file and prints their results.
fn run_suite(suite: &Suite, (world, decided): &mut Tested, now: UnixTime) -> Vec<review::Ended> {
    anstream::println!("{}", suite.file().display());
    let results = suite.run(world, now, decided);
    for result in &results {
        anstream::println!(
            "{}",
            review::Line {
                suite,
                world,
                result
            }
        );
    }
    results
}

/// Names the policies that no test depends on.
fn print_untested<'a>(all: impl Iterator<Item = &'a Tested>) {
    for (world, decided) in all {
        for (application, policy) in review::untested(world, decided) {
            anstream::println!(
                "note: no test of `{application}` is decided by the policy `{policy}`"
            );
        }
    }
}
