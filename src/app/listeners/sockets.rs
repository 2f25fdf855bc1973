use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use pingora::server::{Fds, ListenFds};
use thiserror::Error;

use super::successor::Successor;

/// Bound sockets that are not assigned to a service yet.
pub(in crate::app) struct Sockets {
    bound: Vec<(SocketAddr, TcpListener)>,
    inherited: Fds,
    successor: Option<Successor>,
}

/// Addresses that cannot be listened on.
#[derive(Debug, Error)]
pub struct ListenError(Vec<(SocketAddr, io::Error)>);

/// A failure to take over the listeners of the running process.
#[derive(Debug, Error)]
pub enum TakeOverError {
    /// The upgrade socket could not be created.
    #[error("cannot create the upgrade socket `{}`; set `[server] upgrade_socket` to another path", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No process sent its listeners in time.
    #[error(
        "no process handed its listeners over at `{}` within 7 s: send SIGQUIT to the running one while `run --upgrade` waits, and \
         use the same configuration",
        path.display()
    )]
    NoPredecessor {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An address that the running process did not have.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Sockets {
    /// Binds every address.
    ///
    /// # Errors
    /// All addresses that cannot be listened on.
    pub(in crate::app) fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        Self::bind_missing(addresses, Fds::new())
    }

    /// Takes over the listeners of the process that receives SIGQUIT within 7 s, and binds the
    /// addresses that it did not have.
    ///
    /// # Errors
    /// If no process hands them over, or a new address cannot be listened on.
    pub(in crate::app) fn take_over(
        path: &Path,
        addresses: &[SocketAddr],
    ) -> Result<Self, TakeOverError> {
        // Pingora panics if it cannot bind the socket.
        let _stale = std::fs::remove_file(path);
        let failed = |source| TakeOverError::Socket {
            path: path.to_owned(),
            source,
        };
        UnixListener::bind(path).map_err(failed)?;
        // The predecessor looks for this socket right after the hand-over.
        let successor = Successor::bind(path).map_err(failed)?;
        let mut inherited = Fds::new();
        if let Err(error) = inherited.get_from_sock(path.display().to_string().as_str()) {
            successor.withdraw();
            return Err(TakeOverError::NoPredecessor {
                path: path.to_owned(),
                source: error.into(),
            });
        }
        // Clients would wait forever at a socket without an acceptor.
        inherited.close_unclaimed(
            &addresses
                .iter()
                .map(ToString::to_string)
                .collect::<HashSet<_>>(),
        );
        Ok(Self {
            successor: Some(successor),
            ..Self::bind_missing(addresses, inherited)?
        })
    }

    fn bind_missing(addresses: &[SocketAddr], inherited: Fds) -> Result<Self, ListenError> {
        let (mut bound, mut failed) = (Vec::new(), Vec::new());
        for address in addresses
            .iter()
            .filter(|address| inherited.get(&address.to_string()).is_none())
        {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            match listener {
                Ok(listener) => bound.push((*address, listener)),
                Err(error) => failed.push((*address, error)),
            }
        }
        if failed.is_empty() {
            Ok(Self {
                bound,
                inherited,
                successor: None,
            })
        } else {
            Err(ListenError(failed))
        }
    }

    /// Returns this process's role as a successor, if it took over the listeners of another one.
    pub(in crate::app) const fn successor(&mut self) -> Option<Successor> {
        self.successor.take()
    }

    /// Adds the sockets to the table that Pingora's services use, and that an upgrade hands over.
    pub(super) fn hand_to(self, table: &ListenFds) {
        let mut table = table.lock();
        for (address, listener) in self.bound {
            table.add(address.to_string(), listener.into_raw_fd());
        }
        let (addresses, descriptors) = self.inherited.serialize();
        table.deserialize(addresses, descriptors);
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "cannot listen on `{address}`: ")?;
            match error.kind() {
                io::ErrorKind::PermissionDenied => write!(
                    f,
                    "permission denied; ports below 1024 need a privilege (systemd: \
                     `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose a higher port"
                ),
                io::ErrorKind::AddrInUse => write!(
                    f,
                    "another process uses it (`ss -ltnp 'sport = :{}'` names it); stop that \
                     process, or take its listeners \
                     over with `run --upgrade`",
                    address.port()
                ),
                io::ErrorKind::AddrNotAvailable => {
                    let any = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
                    write!(
                        f,
                        "no interface of this machine has this IP address; use one that `ip address` lists, or `{any}:{}`",
                        address.port()
                    )
                }
                _ => write!(f, "{error}"),
            }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_fails_is_reported_with_a_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [
            taken.local_addr().unwrap(),
            "192.0.2.1:4430".parse().unwrap(),
        ];
        let message = Sockets::bind(&addresses).err().unwrap().to_string();
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines.len(), 2, "{message}");
        assert!(
            lines[0].contains(&addresses[0].to_string()) && lines[0].contains("another process"),
            "{message}"
        );
        assert!(
            lines[1].contains("192.0.2.1:4430") && lines[1].contains("no interface"),
            "{message}"
        );
        let denied =
            ListenError(vec![(addresses[0], io::ErrorKind::PermissionDenied.into())]).to_string();
        assert!(denied.contains("CAP_NET_BIND_SERVICE"), "{denied}");
    }
}
