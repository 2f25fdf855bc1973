use crate::model::{Host, HostPort};
use crate::route::{self, PathFault};

/// The domain of an application: a host and perhaps a path, each with wildcards (`domain`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The domain as it was written.
    pub text: String,
    /// The pattern that requests are matched with. Equal if two applications claim the same
    /// requests.
    ///
    /// Narrower than [`route::Domain`] allows: no wildcard in the last label, no slash at the end
    /// of a path, nothing under `/cdn-cgi/access`.
    pub pattern: route::Domain,
}

impl Domain {
    /// Parses a host, or a host and a path.
    ///
    /// # Errors
    /// A message that names the mistake and its correction.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(format!(
                "`{text}` is an address; write it without the scheme, `{rest}`"
            ));
        }
        if let Some((before, _)) = text.split_once(['?', '#']) {
            return Err(format!(
                "`{text}`: queries and fragments are not matched; write `{before}`"
            ));
        }
        let (host, path) = match text.find('/').and_then(|at| text.split_at_checked(at)) {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        let mut canonical = host_pattern(host)?;
        if let Some(path) = path.filter(|path| !matches!(*path, "/" | "/*")) {
            canonical.push_str(&path_pattern(path)?);
        }
        let pattern = route::Domain::parse(&canonical).map_err(|e| format!("`{text}`: {e}"))?;
        Ok(Self {
            text: text.to_owned(),
            pattern,
        })
    }

    /// Returns host and path in canonical form.
    pub fn canonical(&self) -> String {
        self.pattern.to_string()
    }
}

fn host_pattern(text: &str) -> Result<String, String> {
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!(
            "applications use the port of the team domain; write `{host}`"
        ));
    }
    let malformed = || format!("`{text}` is not a host like `app.example.com` or `*.example.com`");
    if !text.contains('*') {
        return Host::parse(text)
            .map(|host| host.as_str().to_owned())
            .map_err(|_| malformed());
    }
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    if labels.iter().any(|label| label.matches('*').count() > 1) {
        return Err(format!("`{text}` has more than one `*` between two dots"));
    }
    if labels.last().is_some_and(|label| label.contains('*')) {
        return Err(format!(
            "`{text}` covers domains that anyone can register; name the domain, as in `*.example.com`"
        ));
    }
    // A label with a wildcard must be plain letters otherwise: the text that `*` matches is
    // unknown, and so is its A-label.
    let stand_ins: Vec<&str> = labels
        .iter()
        .map(|label| if label.contains('*') { "x" } else { label })
        .collect();
    let host = Host::parse(&stand_ins.join(".")).map_err(|_| malformed())?;
    let canonical: Vec<&str> = host.as_str().split('.').collect();
    if canonical.len() != labels.len() {
        return Err(malformed());
    }
    let label = |(written, canonical): (&&str, &str)| match written.contains('*') {
        false => Ok(canonical.to_owned()),
        true => match HostPort::parse(&written.replace('*', "x")) {
            Ok(label) if label.port.is_none() => Ok(written.to_ascii_lowercase()),
            _ => Err(malformed()),
        },
    };
    Ok(labels
        .iter()
        .zip(canonical)
        .map(label)
        .collect::<Result<Vec<_>, _>>()?
        .join("."))
}

fn path_pattern(text: &str) -> Result<String, String> {
    let encoded = || {
        let encoded: String = text
            .chars()
            .map(|c| match c {
                c if c.is_ascii_graphic() => c.to_string(),
                c => percent_encoding::utf8_percent_encode(
                    c.encode_utf8(&mut [0; 4]),
                    percent_encoding::NON_ALPHANUMERIC,
                )
                .to_string(),
            })
            .collect();
        format!("`{text}` is not percent-encoded; write `{encoded}`")
    };
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(encoded());
    }
    if let Some(fault) = PathFault::find(text) {
        return Err(match fault {
            PathFault::Stars => format!("`{text}` has more than one `*` between two slashes"),
            PathFault::Refused(error) => {
                format!("`{text}` is a path that no request can have: {error}")
            }
            PathFault::Spelling(spelling) => {
                format!(
                    "paths are compared in one spelling, the shortest; write `{spelling}` for `{text}`"
                )
            }
            PathFault::Trimmed(segment) => {
                format!("`{segment}` begins or ends with a dot or a blank, which some origins drop")
            }
            PathFault::Ambiguous(written) => {
                let written = match &*written.to_ascii_lowercase() {
                    ";" | "%2f" => "`;` or `%2F`".to_owned(),
                    _ => format!("`{written}`"),
                };
                format!("`{text}` contains {written}, which origins read in more than one way")
            }
            PathFault::Unnameable(written) => {
                format!("`{text}` contains `{written}`, which no pattern can name")
            }
            PathFault::NeedlessEscape(character) => {
                format!("`{text}` escapes a character that needs no escape; write `{character}`")
            }
            PathFault::NotUtf8(written) => {
                format!(
                    "`{text}` contains `{written}`, which is not UTF-8 and which some origins drop"
                )
            }
            PathFault::Invisible(written) => {
                format!(
                    "`{text}` contains `{written}`, an invisible character that some origins drop"
                )
            }
        });
    }
    if let Some(path) = text.strip_suffix('/') {
        return Err(format!(
            "`{text}` could mean two things; write `{path}` for it and all below, or `{text}*` for all below"
        ));
    }
    if text == "/cdn-cgi/access" || text.starts_with("/cdn-cgi/access/") {
        return Err(
            "requests under `/cdn-cgi/access` are never passed to an application".to_owned(),
        );
    }
    Ok(text.to_owned())
}
