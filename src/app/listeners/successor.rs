//! The end of an upgrade: the predecessor serves until its successor does.
//!
//! Decides when a process that handed over its listeners may end. Trusts the directory of the
//! upgrade socket, as the hand-over does. Never lets a process end for a successor that failed after
//! it received the listeners.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A successor, for the predecessor that waits until it serves.
///
/// If the process ends before [`Successor::serves`], the predecessor's connection ends without a
/// confirmation, or is refused.
pub(in crate::app) struct Successor {
    listener: UnixListener,
    path: PathBuf,
}

impl Successor {
    /// Binds the socket at which the predecessor waits.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub(super) fn bind(upgrade_socket: &Path) -> io::Result<Self> {
        let path = beside(upgrade_socket);
        // A successor that was killed leaves its socket behind, and `bind` fails on an existing
        // file.
        let _stale = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Removes the socket after a failed hand-over.
    pub(super) fn withdraw(self) {
        let _gone = std::fs::remove_file(self.path);
    }

    /// Confirms to the predecessor that this process serves.
    pub(in crate::app) async fn serves(self) {
        if let Ok(listener) = tokio::net::UnixListener::from_std(self.listener) {
            // A predecessor of an earlier release does not connect.
            if let Ok(Ok((mut stream, _))) = timeout(PATIENCE, listener.accept()).await {
                let _gone = stream.write_all(SERVES).await;
            }
        }
        let _gone = std::fs::remove_file(self.path);
    }
}

/// Waits until the successor serves, and returns `true`; `false` if it ended before, or takes
/// longer than a minute.
pub(in crate::app) async fn is_serving(upgrade_socket: &Path) -> bool {
    let serves = async {
        let mut stream = match UnixStream::connect(beside(upgrade_socket)).await {
            Ok(stream) => stream,
            // A successor of an earlier release has no such socket. One of this release has it
            // before the listeners.
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        };
        let mut read = [0; SERVES.len()];
        stream.read_exact(&mut read).await.is_ok() && read == *SERVES
    };
    timeout(PATIENCE, serves).await.unwrap_or(false)
}

fn beside(upgrade_socket: &Path) -> PathBuf {
    let mut path = upgrade_socket.as_os_str().to_owned();
    path.push(".serving");
    path.into()
}

// A byte, because the end of the connection alone could also be the end of the successor.
const SERVES: &[u8; 1] = b"1";
// A start reads certificates and the store, which takes seconds. After a minute the successor
// counts as failed, and this process continues.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn predecessor_ends_only_for_a_successor_that_serves() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("upgrade.sock");
        assert!(is_serving(&socket).await, "an earlier release");
        let successor = Successor::bind(&socket).unwrap();
        let (waited, ()) = tokio::join!(is_serving(&socket), successor.serves());
        assert!(waited);
        assert!(!beside(&socket).exists());

        let successor = Successor::bind(&socket).unwrap();
        let failed = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(successor);
        };
        let (waited, ()) = tokio::join!(is_serving(&socket), failed);
        assert!(!waited, "the successor ended while the predecessor waited");
        assert!(!is_serving(&socket).await, "the successor had ended before");
        // Its remains do not hinder the next one.
        Successor::bind(&socket).unwrap().withdraw();
        assert!(!beside(&socket).exists());
    }
}
