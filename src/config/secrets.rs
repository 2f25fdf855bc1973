use std::env::VarError;
use std::fs::Metadata;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::reader::Item;
use super::server::Insecure;
use crate::model::Secret;

/// The size limit of secrets, certificates and configuration files.
pub(super) const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// The environment of a configuration: variables and files that it refers to.
pub trait Environment {
    /// Returns the value of an environment variable.
    ///
    /// # Errors
    /// If it is not set, or not Unicode.
    fn variable(&self, name: &str) -> Result<String, VarError>;

    /// Reads a file with a secret, a certificate or a key; at most 4 MiB.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, path: &Path) -> io::Result<FileContent>;

    /// Reads any other file; at most `most` bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    fn bytes(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// Returns `true` if the configuration is examined on another machine than it runs on. Secrets,
    /// keys and certificates are optional then.
    fn is_offline(&self) -> bool {
        false
    }
}

/// An environment without variables and files, to examine a configuration on another machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl Environment for Offline {
    fn variable(&self, _name: &str) -> Result<String, VarError> {
        Ok(PLACEHOLDER.to_owned())
    }

    fn read(&self, _path: &Path) -> io::Result<FileContent> {
        Ok(FileContent {
            text: Secret::new(PLACEHOLDER),
            world_readable: false,
        })
    }

    fn bytes(&self, _path: &Path, _most: u64) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn is_offline(&self) -> bool {
        true
    }
}

/// The placeholder for every secret.
const PLACEHOLDER: &str = "elsewhere";

/// The result of [`Environment::read`].
#[derive(Debug)]
pub struct FileContent {
    /// The content; bytes that are not UTF-8 are replaced.
    pub text: Secret,
    /// `true` if every user of the machine can read the file.
    pub world_readable: bool,
}

/// The environment of the process and the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Environment for System {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        std::env::var(name)
    }

    fn read(&self, path: &Path) -> io::Result<FileContent> {
        let (bytes, metadata) = whole(path, LARGEST_FILE)?;
        let bytes = Zeroizing::new(bytes);
        #[cfg(unix)]
        let world_readable =
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0;
        #[cfg(not(unix))]
        let world_readable = false;
        Ok(FileContent {
            text: Secret::new(String::from_utf8_lossy(&bytes)),
            world_readable,
        })
    }

    fn bytes(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        whole(path, most).map(|(bytes, _)| bytes)
    }
}

fn whole(path: &Path, most: u64) -> io::Result<(Vec<u8>, Metadata)> {
    use io::Read as _;
    let regular = |metadata: Metadata| match metadata.is_file() {
        true => Ok(metadata),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    };
    // Opening a pipe would wait for its other end.
    regular(std::fs::metadata(path)?)?;
    let file = std::fs::File::open(path)?;
    let metadata = regular(file.metadata()?)?;
    if metadata.len() > most {
        let message = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    // A buffer that grows would leave parts of a secret behind in memory.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    file.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// The number of lines that a secret may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// A password or a token.
    One,
    /// PEM.
    Many,
}

/// Reads a secret: `env:NAME`, `file:PATH`, or, with `[insecure] inline_secrets`, the secret
/// itself. No message repeats the value.
pub(super) fn read(item: &Item<'_>, insecure: &Insecure) -> Option<Secret> {
    read_as(item, insecure, Lines::One)
}

/// Reads a secret that may have several lines, such as PEM.
pub(super) fn read_lines(item: &Item<'_>, insecure: &Insecure) -> Option<Secret> {
    read_as(item, insecure, Lines::Many)
}

fn read_as(item: &Item<'_>, insecure: &Insecure, lines: Lines) -> Option<Secret> {
    let text = item.text()?;
    if item.is_access() {
        // A reference would let a client of the API read the machine's files and variables: the
        // secret would go to a provider of its choice.
        return verbatim(item, text, lines);
    }
    if let Some(name) = text.strip_prefix("env:") {
        return from_variable(item, name, lines);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return from_file(item, path, lines);
    }
    if text.is_empty() {
        item.error("the secret is empty; write `env:NAME` or `file:PATH`");
        return None;
    }
    if !insecure.inline_secrets {
        item.error(
            "do not put secrets in this file; write `env:NAME` for an environment variable or `file:PATH` for a \
             file (or set `inline_secrets = true` under `[insecure]`)",
        );
        return None;
    }
    Some(Secret::new(text))
}

/// Reads a secret from the object itself.
fn verbatim(item: &Item<'_>, text: &str, lines: Lines) -> Option<Secret> {
    trimmed(item, &Secret::new(text), "the secret", lines)
}

/// Reads a private key. It has many lines, so it is always in a file.
pub(super) fn read_key(item: &Item<'_>) -> Option<Secret> {
    if item.is_access() {
        return verbatim(item, item.text()?, Lines::Many);
    }
    let Some(path) = item
        .text()?
        .strip_prefix("file:")
        .filter(|path| !path.is_empty())
    else {
        item.error("a private key is a file; write `file:PATH`, such as `file:/etc/portcullis/okta-key.pem`");
        return None;
    };
    let path = item.reader().resolve(path);
    match item.reader().env().read(&path) {
        Ok(content) => {
            if content.world_readable {
                item.warn(&format!(
                    "every user of this machine can read `{}`; `chmod 600` it",
                    path.display()
                ));
            }
            Some(Secret::new(unmarked(content.text.expose())))
        }
        Err(e) => {
            item.error(&format!(
                "the file `{}` cannot be read: {}",
                path.display(),
                plain(&e)
            ));
            None
        }
    }
}

fn from_variable(item: &Item<'_>, name: &str, lines: Lines) -> Option<Secret> {
    let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !named {
        item.error("`env:` must be followed by the name of an environment variable, such as `env:OKTA_CLIENT_SECRET`");
        return None;
    }
    match item.reader().env().variable(name) {
        Ok(value) => trimmed(
            item,
            &Secret::new(value),
            &format!("the environment variable `{name}`"),
            lines,
        ),
        Err(VarError::NotPresent) => {
            item.error(&format!("the environment variable `{name}` is not set"));
            None
        }
        Err(VarError::NotUnicode(_)) => {
            item.error(&format!("the environment variable `{name}` is not UTF-8"));
            None
        }
    }
}

fn from_file(item: &Item<'_>, path: &str, lines: Lines) -> Option<Secret> {
    if path.is_empty() {
        item.error(
            "`file:` must be followed by a path, such as `file:/etc/portcullis/okta-secret`",
        );
        return None;
    }
    let path = item.reader().resolve(path);
    match item.reader().env().read(&path) {
        Ok(content) => {
            if content.world_readable {
                let shown = path.display();
                item.warn(&format!(
                    "every user of this machine can read `{shown}`; `chmod 600` it"
                ));
            }
            trimmed(
                item,
                &content.text,
                &format!("the file `{}`", path.display()),
                lines,
            )
        }
        Err(e) => {
            item.error(&format!(
                "the file `{}` cannot be read: {}",
                path.display(),
                plain(&e)
            ));
            None
        }
    }
}

/// Returns the text without a byte order mark, which some editors on Windows write.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Removes the line end that editors and `echo` write.
fn trimmed(item: &Item<'_>, value: &Secret, source: &str, lines: Lines) -> Option<Secret> {
    let value = unmarked(value.expose()).trim_end_matches(['\r', '\n']);
    if value.trim().is_empty() {
        item.error(&format!("{source} is empty"));
        return None;
    }
    if value
        .chars()
        .any(|c| c.is_control() && !(lines == Lines::Many && matches!(c, '\r' | '\n')))
    {
        item.error(&format!("{source} contains more than one line"));
        return None;
    }
    Some(Secret::new(value))
}

/// Returns the cause of a failed read, without the operating system's number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
