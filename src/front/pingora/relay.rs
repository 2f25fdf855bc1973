//! The bytes of a tunnel, in both directions at once.
//!
//! Decides when a tunnel ends. Trusts Pingora's streams. Never examines the bytes, and never lets a
//! blocked write in one direction block the other: peers that write before they read would deadlock.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use pingora::prelude::{Error, ErrorType, OrErr as _, Result, Session};
use pingora::protocols::Stream;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::v1::client::HttpSession as Origin;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, sleep};

/// The longest idle times of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleLimits {
    /// While both directions are open.
    pub(super) open: Duration,
    /// After one side has ended.
    pub(super) half_closed: Duration,
}

/// The end of a tunnel without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have ended.
    Complete,
    /// Nothing moved for longer than the limit.
    Idle,
}

/// Moves bytes both ways until both sides have ended or the tunnel is idle for too long.
///
/// The end of one side is passed on while the other direction continues, as `docker attach` needs.
///
/// # Errors
/// If reading or writing fails; the source of the error names the side.
pub(super) async fn relay(
    session: &mut Session,
    mut origin: Origin,
    limits: IdleLimits,
) -> Result<End> {
    if !session.was_upgraded() {
        return Error::e_explain(ErrorType::InternalError, "a tunnel without an upgrade");
    }
    // The limits of the tunnel apply instead: each side may be idle, and a client may stop reading.
    session.set_read_timeout(None);
    session.set_write_timeout(None);
    origin.read_timeout = None;
    // Bytes that arrived together with the 101 are in the buffer of Pingora's reader.
    let early = poll_once(origin.read_response_task())
        .await
        .transpose()
        .map_err(|error| error.into_up())?;
    let down = match early {
        Some(HttpTask::UpgradedBody(Some(part), _)) => Step::Write(part),
        _ => Step::Read,
    };
    let buffer = vec![0; CHUNK].into_boxed_slice();
    let mut tunnel = Tunnel {
        session,
        origin: origin.into_inner(),
        up: Step::Read,
        down,
        buffer,
    };
    let mut moved = Instant::now();
    let mut idle = pin!(sleep(limits.open));
    poll_fn(|context| {
        // Both directions share the task's cooperative budget, so they take turns.
        while tunnel.poll_up(context)?.is_ready() | tunnel.poll_down(context)?.is_ready() {
            moved = Instant::now();
        }
        let (up, down) = (tunnel.up.is_done(), tunnel.down.is_done());
        if up && down {
            return Poll::Ready(Ok(End::Complete));
        }
        let deadline = moved
            + if up || down {
                limits.half_closed
            } else {
                limits.open
            };
        if idle.deadline() != deadline {
            idle.as_mut().reset(deadline);
        }
        idle.as_mut().poll(context).map(|()| Ok(End::Idle))
    })
    .await
}

/// Returns the output of a future if it is ready at once.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

struct Tunnel<'a> {
    session: &'a mut Session,
    origin: Stream,
    /// From the client to the origin.
    up: Step,
    /// From the origin to the client.
    down: Step,
    buffer: Box<[u8]>,
}

/// The next step of a direction.
enum Step {
    Read,
    Write(Bytes),
    Flush,
    /// The source has ended; the destination must be closed.
    Close,
    Done,
}

impl Step {
    const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Steps of the two directions. Each operation keeps its progress outside of its future, so it can
/// be polled again with a new one.
impl Tunnel<'_> {
    fn poll_up(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.up = match &mut self.up {
            Step::Read => {
                match ready!(pin!(self.session.read_request_body()).poll(context))
                    .map_err(|error| error.into_down())?
                {
                    Some(part) => Step::Write(part),
                    None => Step::Close,
                }
            }
            Step::Write(part) if part.is_empty() => Step::Flush,
            Step::Write(part) => {
                let written = ready!(Pin::new(&mut self.origin).poll_write(context, part));
                match written
                    .or_err(ErrorType::WriteError, "writing to a tunnel")
                    .map_err(|error| error.into_up())?
                {
                    0 => {
                        return Poll::Ready(Err(Error::explain(
                            ErrorType::WriteError,
                            "the tunnel is full",
                        )
                        .into_up()));
                    }
                    written => part.advance(written),
                }
                return Poll::Ready(Ok(()));
            }
            Step::Flush => {
                let flushed = ready!(Pin::new(&mut self.origin).poll_flush(context));
                flushed
                    .or_err(ErrorType::WriteError, "writing to a tunnel")
                    .map_err(|error| error.into_up())?;
                Step::Read
            }
            Step::Close => {
                // A lost origin is detected in the other direction.
                let _closed = ready!(Pin::new(&mut self.origin).poll_shutdown(context));
                Step::Done
            }
            Step::Done => return Poll::Pending,
        };
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let client = self.session.as_downstream_mut();
        self.down = match &mut self.down {
            Step::Read => {
                let mut buffer = ReadBuf::new(&mut self.buffer);
                let read = ready!(Pin::new(&mut self.origin).poll_read(context, &mut buffer));
                read.or_err(ErrorType::ReadError, "reading from a tunnel")
                    .map_err(|error| error.into_up())?;
                match buffer.filled() {
                    [] => Step::Close,
                    part => Step::Write(Bytes::copy_from_slice(part)),
                }
            }
            Step::Write(part) => {
                client.send_downstream_proxy_task(HttpTask::UpgradedBody(
                    Some(mem::take(part)),
                    false,
                ));
                Step::Flush
            }
            Step::Flush => {
                ready!(pin!(client.write_downstream_proxy_tasks()).poll(context))
                    .map_err(|error| error.into_down())?;
                Step::Read
            }
            Step::Close => {
                ready!(pin!(client.shutdown()).poll(context));
                Step::Done
            }
            Step::Done => return Poll::Pending,
        };
        Poll::Ready(Ok(()))
    }
}

/// The most bytes in flight in each direction.
const CHUNK: usize = 16 * 1024;
