//! HTTP/1.1 as bytes, for the origins, providers and clients of the tests. Nothing is normalised,
//! so that tests can examine messages exactly as they were received.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite};

/// The limit of a single wait. A test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP or TLS connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The first line and the header lines of a message.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The first line, without its end.
    pub first: String,
    /// Names and values in the order and the case they came in.
    pub headers: Headers,
}

/// Header lines in the order and the case they came in.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Every value under `name`, whatever its case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The only value under `name`. More than one is a failure of the test.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "`{name}` came {} times: {all:?}", all.len());
        all.first().copied()
    }

    /// Returns `true` if a value under `name` has `token` in its comma-separated list.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|v| v.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }
}

/// The framing of a message body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Reads a head. `None` when the connection ended before its first byte.
pub async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut at_start = true;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return if at_start {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if at_start {
            head.first = text.to_owned();
            at_start = false;
        } else if text.is_empty() {
            return Ok(Some(head));
        } else {
            let (name, value) = text.split_once(':').unwrap_or((text, ""));
            head.headers
                .0
                .push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

/// The framing that the headers announce; `otherwise` when they announce none.
pub fn framing(headers: &Headers, otherwise: Framing) -> Framing {
    if headers.lists("transfer-encoding", "chunked") {
        return Framing::Chunked;
    }
    headers
        .one("content-length")
        .map_or(otherwise, |length| Framing::Length(length.parse().unwrap()))
}

/// Reads the next piece of a body, and updates `framing` to the rest. `None` at its end.
pub async fn read_piece(
    reader: &mut (impl AsyncBufRead + Unpin),
    framing: &mut Framing,
) -> io::Result<Option<Vec<u8>>> {
    match framing {
        Framing::Length(0) => Ok(None),
        Framing::Length(left) => {
            let mut piece = vec![0; (*left).min(16 * 1024)];
            let read = reader.read(&mut piece).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            piece.truncate(read);
            *left -= read;
            Ok(Some(piece))
        }
        Framing::UntilClose => {
            let mut piece = vec![0; 16 * 1024];
            let read = reader.read(&mut piece).await?;
            piece.truncate(read);
            Ok((read > 0).then_some(piece))
        }
        Framing::Chunked => {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("chunk size `{size}`")))?;
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece).await?;
            piece.truncate(size);
            *framing = if size == 0 {
                Framing::Length(0)
            } else {
                Framing::Chunked
            };
            Ok((size > 0).then_some(piece))
        }
    }
}

/// Reads a whole body.
pub async fn read_body(
    reader: &mut (impl AsyncBufRead + Unpin),
    mut framing: Framing,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = read_piece(reader, &mut framing).await? {
        body.extend(piece);
    }
    Ok(body)
}
