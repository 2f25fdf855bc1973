//! A crate outside the repository that depends on the library, with exactly the lines of
//! `docs/embedding.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the lines for `Cargo.toml` of `docs/embedding.md`.
fn documented_lines() -> String {
    let page = include_str!("../../../docs/embedding.md");
    let (_, block) = page.split_once("```toml\n").expect("the lines");
    block.split_once("```").expect("their end").0.to_owned()
}

#[test]
fn front_page_of_the_library_has_the_documented_lines() {
    let page = include_str!("../../../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"));
    let page: String = page
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    assert!(
        page.contains(&format!("```toml\n{}```", documented_lines())),
        "{page}"
    );
}

#[test]
fn crate_outside_the_repository_builds_and_runs() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // The real path instead of a link, so that every run compiles the same crate, and only once.
    let lines = documented_lines().replace("../portcullis", repository.to_str().unwrap());
    assert_eq!(
        lines.matches(repository.to_str().unwrap()).count(),
        2,
        "{lines}"
    );
    // The profile is that of the repository, so that dependencies are shared with its own build.
    let manifest = format!(
        r#"
[package]
name = "{NAME}"
version = "0.0.0"
edition = "2024"

{lines}

[profile.dev]
debug = "line-tables-only"
[profile.dev.package.aws-lc-sys]
opt-level = 3
[profile.dev.package.libsqlite3-sys]
opt-level = 3
"#
    );
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    // The versions of the repository, which are on this machine.
    std::fs::copy(
        repository.join("Cargo.lock"),
        folder.path().join("Cargo.lock"),
    )
    .unwrap();
    std::fs::copy(
        repository.join("examples/embed.rs"),
        folder.path().join("src/main.rs"),
    )
    .unwrap();

    let target = Path::new(env!("CARGO_BIN_EXE_portcullis"))
        .ancestors()
        .nth(2)
        .unwrap();
    let _rest = Rest(target.join("debug"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", target)
        // Other tests run meanwhile.
        .env("CARGO_BUILD_JOBS", "1")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );

    let lock: toml::Table = std::fs::read_to_string(folder.path().join("Cargo.lock"))
        .unwrap()
        .parse()
        .unwrap();
    let zlib = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"].as_str() == Some("libz-ng-sys"));
    assert!(
        zlib.is_some_and(|package| package.get("source").is_none()),
        "not the crate that needs cmake: {zlib:?}"
    );

    let ran = Command::new(target.join("debug").join(NAME))
        .arg("/nonexistent.toml")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        !ran.status.success() && said.contains("/nonexistent.toml"),
        "{said}"
    );
}

/// Removes the crate's own files from the shared folder: its path differs in each run, and they are
/// not needed again.
struct Rest(PathBuf);

impl Drop for Rest {
    fn drop(&mut self) {
        let names = [NAME.to_owned(), NAME.replace('-', "_")];
        for folder in ["", "deps", ".fingerprint", "incremental"] {
            let entries = std::fs::read_dir(self.0.join(folder))
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            for entry in entries {
                let name = entry.file_name().to_string_lossy().into_owned();
                if names.iter().any(|ours| name.starts_with(ours)) {
                    // A file that stays costs space and nothing else.
                    let _removed = if entry.path().is_dir() {
                        std::fs::remove_dir_all(entry.path())
                    } else {
                        std::fs::remove_file(entry.path())
                    };
                }
            }
        }
    }
}

const NAME: &str = "portcullis-embedding-test";
