use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use ipnet::IpNet;
use pingora::protocols::l4::socket;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::{GetSocketDigest as _, SocketDigest};
use ppp::{v1, v2};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

/// An error that closes a connection with a mandatory PROXY protocol header.
#[derive(Debug, Error)]
pub(super) enum ProxyProtocolError {
    #[error("the peer is not in `trusted_proxies`")]
    UntrustedPeer,
    #[error("the connection does not start with a PROXY protocol header")]
    Missing,
    #[error("the PROXY protocol header is longer than {LONGEST} bytes")]
    TooLong,
    #[error("the PROXY protocol header cannot be read")]
    V1(#[from] v1::BinaryParseError),
    #[error("the PROXY protocol header cannot be read")]
    V2(#[from] v2::ParseError),
    #[error("the connection ended")]
    Closed(#[from] io::Error),
}

/// Reads the header that a trusted proxy sends first, version 1 or 2, and takes the address of the
/// client from it.
///
/// `LOCAL` connections are the proxy's own, such as health checks, and keep its address. If the
/// proxy does not know the client's address (`UNKNOWN`, Unix sockets), the client gets the
/// unspecified one, which no proxy and no rule can match by mistake.
pub(super) async fn accept(
    stream: &mut Stream,
    trusted: &[IpNet],
) -> Result<(), ProxyProtocolError> {
    let digest = stream.get_socket_digest();
    let peer = digest
        .as_deref()
        .and_then(SocketDigest::peer_addr)
        .and_then(socket::SocketAddr::as_inet);
    let peer = peer
        .map(|peer| peer.ip().to_canonical())
        .ok_or(ProxyProtocolError::UntrustedPeer)?;
    if !trusted.iter().any(|net| net.contains(&peer)) {
        return Err(ProxyProtocolError::UntrustedPeer);
    }
    // Read only after the peer was found in `trusted_proxies`: any client can write this header.
    if let Some(client) = read(stream).await? {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // The cell is new, so it is empty.
        let _set = digest.peer_addr.set(Some(client.into()));
        stream.set_socket_digest(digest);
    }
    Ok(())
}

/// Returns the client's address, or `None` for a connection of the proxy itself. Reads no byte after
/// the header.
async fn read(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    // Both versions are longer than this, and differ in it.
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [_, _, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        // The length is from the peer, and the buffer is allocated at once.
        if length > LONGEST {
            return Err(ProxyProtocolError::TooLong);
        }
        header.extend_from_slice(&rest);
        let fixed = header.len();
        header.resize(fixed.saturating_add(length), 0);
        stream
            .read_exact(header.get_mut(fixed..).unwrap_or_default())
            .await?;
        let read = v2::Header::try_from(header.as_slice())?;
        return Ok(match (read.command, read.addresses) {
            (v2::Command::Local, _) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                Some((ip.source_address, ip.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                Some(mapped(ip.source_address.into(), ip.source_port))
            }
            (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => {
                Some(unknown)
            }
        });
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(ProxyProtocolError::Missing);
    }
    while !header.ends_with(v1::PROTOCOL_SUFFIX.as_bytes()) {
        if header.len() >= LONGEST_V1 {
            return Err(ProxyProtocolError::TooLong);
        }
        header.push(stream.read_u8().await?);
    }
    let read = v1::Header::try_from(header.as_slice())?;
    Ok(Some(match read.addresses {
        v1::Addresses::Unknown => unknown,
        v1::Addresses::Tcp4(ip) => (ip.source_address, ip.source_port).into(),
        v1::Addresses::Tcp6(ip) => mapped(ip.source_address.into(), ip.source_port),
    }))
}

fn mapped(ip: IpAddr, port: u16) -> SocketAddr {
    (ip.to_canonical(), port).into()
}

/// The limit for the variable part of a version 2 header: addresses and TLVs, such as a client
/// certificate.
const LONGEST: usize = 4096;
/// With the line break (PROXY protocol 2.1).
const LONGEST_V1: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [
            v2::PROTOCOL_PREFIX,
            &[0x20 | command, family],
            &length,
            rest,
        ]
        .concat()
    }

    async fn read_all(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), ProxyProtocolError> {
        let mut stream = bytes;
        let client = read(&mut stream).await?;
        Ok((client, stream.to_vec()))
    }

    #[tokio::test]
    async fn header_yields_the_client_and_the_rest_is_unread() {
        let four = [203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 1, 187];
        let six = [
            [0x20, 1, 0xd, 0xb8].as_slice(),
            &[0; 11],
            &[7],
            &[0; 16],
            &[0x30, 0x39, 1, 187],
        ]
        .concat();
        let tlv = [four.as_slice(), &[4, 0, 1, 0]].concat();
        let cases: [(&[u8], Option<&str>); 10] = [
            (
                b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 443\r\n",
                Some("203.0.113.7:12345"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n",
                Some("[2001:db8::7]:12345"),
            ),
            (
                b"PROXY TCP6 ::ffff:203.0.113.7 ::1 12345 443\r\n",
                Some("203.0.113.7:12345"),
            ),
            (b"PROXY UNKNOWN\r\n", Some("0.0.0.0:0")),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Some("0.0.0.0:0")),
            (&v2(1, 0x11, &four), Some("203.0.113.7:12345")),
            (&v2(1, 0x21, &six), Some("[2001:db8::7]:12345")),
            (&v2(1, 0x11, &tlv), Some("203.0.113.7:12345")),
            (&v2(1, 0x00, &[]), Some("0.0.0.0:0")),
            (&v2(0, 0x00, &[]), None),
        ];
        for (header, client) in cases {
            let (read, rest) = read_all(&[header, b"GET / HTTP/1.1\r\n"].concat())
                .await
                .unwrap();
            assert_eq!(
                read,
                client.map(|client| client.parse().unwrap()),
                "{header:?}"
            );
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
    }

    #[tokio::test]
    async fn connection_without_a_valid_header_is_rejected() {
        let long = v2(1, 0x11, &[0; LONGEST + 1]);
        let cases: [&[u8]; 13] = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
            b"proxy TCP4 203.0.113.7 10.0.0.1 12345 443\r\n",
            b"PROXY TCP4 203.0.113 10.0.0.1 12345 443\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 123456 443\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 443\n\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 12345 443\r\n",
            b"PROXY UDP4 203.0.113.7 10.0.0.1 12345 443\r\n",
            b"PROXY TCP4 203.0.113.7",
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 11]),
            &long,
        ];
        for header in cases {
            assert!(read_all(header).await.is_err(), "{header:?}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        assert!(matches!(
            read_all(&endless).await,
            Err(ProxyProtocolError::TooLong)
        ));
    }
}
