//! The cause of a failed exchange with an origin, as text for the log.
//!
//! Trusts the texts of the operating system, of the TLS library and of Pingora's connectors. Never
//! repeats a byte that the origin or the client sent as HTTP: a header line in an error could hold
//! a cookie.

use std::error::Error as StdError;
use std::io;

use pingora::prelude::{Error, ErrorType};

/// Describes why an exchange failed, in one line.
pub(in crate::front::pingora) fn cause(error: &Error) -> String {
    let mut parts = vec![summary(&error.etype)];
    parts.extend(tls_context(error));
    let mut next = error
        .cause
        .as_deref()
        .map(|cause| cause as &(dyn StdError + 'static));
    while let Some(cause) = next {
        parts.extend(
            detail(cause).filter(|detail| !parts.iter().any(|part| part.contains(detail.as_str()))),
        );
        next = nested(cause);
    }
    one_line(&parts.join(": "))
}

/// Returns `true` if the connection to an address, or its handshake, failed. No part of the request
/// was sent then, and clients cannot cause it. Clients can cause errors of this machine (such as too
/// many open files) and of HTTP/2 connections in use.
pub(in crate::front::pingora) const fn is_unreachable(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::TLSWantX509Lookup
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
    )
}

/// Returns the cause of a failed handshake, which Pingora stores only as text. It cannot contain
/// HTTP data, because no message was read yet.
fn tls_context(error: &Error) -> Option<String> {
    let is_tls = matches!(
        error.etype,
        ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError | ErrorType::InvalidCert
    );
    let context = error.context.as_ref().filter(|_| is_tls)?.as_str();
    // "TLS connect() failed: TLSHandshakeFailure context: tls connect error cause: …"
    let cause = context
        .rsplit_once(" cause: ")
        .map_or(context, |(_, cause)| cause)
        .trim();
    // `openssl req -x509` marks self-signed certificates like this. The name of the error does not
    // explain the problem.
    Some(cause.replace(
        "Other(OtherError(CaUsedAsEndEntity))",
        "it is marked as an authority (CA:TRUE), not as a server's",
    ))
}

fn summary(kind: &ErrorType) -> String {
    let text = match kind {
        ErrorType::ConnectTimedout => "the connection took too long",
        ErrorType::ConnectRefused => "the connection was refused",
        ErrorType::ConnectNoRoute => "there is no route",
        ErrorType::ConnectError => "the connection failed",
        ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError => "the TLS handshake failed",
        ErrorType::TLSHandshakeTimedout => "the TLS handshake took too long",
        ErrorType::InvalidCert => "the certificate cannot be verified",
        ErrorType::BindError => "no local address is free",
        ErrorType::SocketError | ErrorType::InternalError => "a local error of this machine",
        ErrorType::ReadTimedout => "no data within `read_timeout`",
        ErrorType::WriteTimedout => "the origin read no data within `read_timeout`",
        ErrorType::ConnectionClosed => "the connection was closed before the response",
        ErrorType::ReadError => "reading failed",
        ErrorType::WriteError => "writing failed",
        ErrorType::InvalidHTTPHeader => "the message header is malformed",
        ErrorType::H2Downgrade => "HTTP/2 was refused in favour of HTTP/1.1",
        ErrorType::HTTPStatus(status) => return format!("status {status}"),
        other => other.as_str(),
    };
    text.to_owned()
}

/// Returns the part of an error's text that is safe to log.
fn detail(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = pingora(error) {
        return Some(tls_context(error).unwrap_or_else(|| summary(&error.etype)));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error.to_string());
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        // The text of `h2` repeats the data that the peer put into GOAWAY.
        return error
            .reason()
            .map(|reason| format!("HTTP/2 {}", reason.description()));
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.raw_os_error() {
        Some(code) => Some(io::Error::from_raw_os_error(code).to_string()),
        None => match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(tls) => Some(tls.to_string()),
            None => Some(error.kind().to_string()),
        },
    }
}

fn nested<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(error) = pingora(error) {
        return error
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static));
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return error
            .get_io()
            .map(|error| error as &(dyn StdError + 'static));
    }
    error.source()
}

/// Unwraps Pingora's error, which may be boxed.
fn pingora<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    error
        .downcast_ref::<Box<Error>>()
        .map(AsRef::as_ref)
        .or_else(|| error.downcast_ref::<Error>())
}

fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    line
}

/// The length limit of a cause. A certificate can name thousands of hosts, and an error repeats
/// them.
const LONGEST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_never_reach_the_log() {
        let secret = "set-cookie: session=0123456789";
        let inner = Error::explain(ErrorType::InvalidHTTPHeader, format!("buf: {secret}"));
        let outer = Error::because(ErrorType::H1Error, format!("Peer: x, {secret}"), inner);
        let custom = io::Error::other(format!("bad line: {secret}"));
        let read = Error::because(
            ErrorType::ReadError,
            format!("while reading {secret}"),
            custom,
        );
        for (error, expected) in [
            (outer, "H1Error: the message header is malformed"),
            (read, "reading failed: other error"),
            (
                Error::because(
                    ErrorType::WriteError,
                    secret,
                    io::Error::from_raw_os_error(32),
                ),
                "writing failed: Broken pipe (os error 32)",
            ),
        ] {
            let text = cause(&error);
            assert_eq!(text, expected);
            assert!(!text.contains("0123456789"), "{text}");
        }
    }

    #[test]
    fn refused_connection_has_the_text_of_its_errno() {
        let io = io::Error::from_raw_os_error(111);
        let error = Error::because(
            ErrorType::ConnectRefused,
            "Fail to connect to 127.0.0.1:9",
            io,
        );
        let text = cause(&error.more_context("Fail to connect to addr: 127.0.0.1:9, scheme: HTTP"));
        assert_eq!(
            text,
            "the connection was refused: Connection refused (os error 111)"
        );
    }

    #[test]
    fn failed_handshake_has_the_text_of_the_tls_library() {
        let text = "TLS connect() failed:  TLSHandshakeFailure context: tls connect error cause: invalid peer certificate: \
                    Other(OtherError(CaUsedAsEndEntity)), SNI: wiki.internal";
        let error = Error::explain(ErrorType::TLSHandshakeFailure, text);
        let cause = cause(&error);
        let expected = "the TLS handshake failed: invalid peer certificate: it is marked as an authority (CA:TRUE), not as a \
                        server's, SNI: wiki.internal";
        assert_eq!(cause, expected);
    }

    #[test]
    fn long_and_broken_texts_are_one_short_line() {
        let error = Error::explain(
            ErrorType::TLSHandshakeFailure,
            format!("a\nb\x1b[2J{}", "x".repeat(5000)),
        );
        let text = cause(&error);
        assert!(
            text.chars().count() <= LONGEST + 20 && !text.chars().any(char::is_control),
            "{text}"
        );
    }

    #[test]
    fn local_and_protocol_errors_eject_no_origin() {
        for kind in [
            ErrorType::InternalError,
            ErrorType::SocketError,
            ErrorType::BindError,
            ErrorType::H2Error,
            ErrorType::ReadTimedout,
            ErrorType::ConnectionClosed,
            ErrorType::InvalidHTTPHeader,
            ErrorType::HTTPStatus(502),
        ] {
            assert!(!is_unreachable(&kind), "{kind:?}");
        }
    }
}
