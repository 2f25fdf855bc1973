//! The end of running requests: a request that goes on for long is allowed only for as long as a
//! new one would be.
//!
//! Decides when a running request is judged again and when it is cut. Trusts the engine, which
//! answers as for a new request. Never prolongs a request. A message of known and small length
//! begins no watch unless it takes long all the same; any other one copies the request's head for
//! its watch.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, header};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result, Session};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, sleep_until, timeout};

use super::response::is_bodiless;
use super::{AccessCtx, AccessFilter};
use crate::gate::Standing;
use crate::model::{Reason, RequestId};

/// A running request that can be judged again.
pub(super) trait Judge: Send + Sync + 'static {
    /// Evaluates the request as a new one.
    fn judge(&self) -> impl Future<Output = Standing> + Send;

    /// Records that the request is cut, and returns the id of the record.
    fn record_cut(&self, reason: Option<Reason>) -> RequestId;
}

/// The progress of the watch over a request, in its context.
#[derive(Debug, Default)]
pub(super) struct WatchState {
    /// The last judgement, until the request is watched.
    judged: Option<Instant>,
    is_watched: bool,
    /// The reason of the end, if the request has ended.
    ended: Option<Reason>,
}

impl WatchState {
    pub(super) fn admitted() -> Self {
        Self {
            judged: Some(Instant::now()),
            ..Self::default()
        }
    }

    fn is_overdue(&self) -> bool {
        !self.is_watched
            && self
                .judged
                .is_some_and(|judged| judged.elapsed() >= JUDGED_EVERY)
    }
}

/// Requests that go on for long. Each function belongs into the hook of `ProxyHttp` that has its
/// name.
///
/// A message of unknown length or over 1 MiB begins a watch at once: it is judged every 10 seconds,
/// and cut within 30 seconds of the end of the access. Everything else is judged again when it
/// moves after more than 10 seconds: no part of it passes then that a new request would not get.
/// Only [`Cuttable`] can end requests that rest.
impl AccessFilter {
    /// Judges the request while its body is forwarded.
    ///
    /// # Errors
    /// [`ErrorType::HTTPStatus`] 403 if the request is no longer allowed.
    pub fn request_body_filter(
        &self,
        session: &Session,
        end_of_stream: bool,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        if !end_of_stream && may_last(&session.req_header().headers) {
            self.watch(session, ctx);
        }
        self.judge_if_overdue(session, ctx)
    }

    /// Judges the request when its response is there, before anything of it is used.
    ///
    /// # Errors
    /// As [`AccessFilter::request_body_filter`].
    pub fn response_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        self.judge_if_overdue(session, ctx)?;
        let is_tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel
            || !is_bodiless(&session.req_header().method, response.status)
                && may_last(&response.headers)
        {
            self.watch(session, ctx);
        }
        Ok(())
    }

    /// Judges the request while the body of its response is forwarded.
    ///
    /// # Errors
    /// As [`AccessFilter::request_body_filter`].
    pub fn response_body_filter(&self, session: &Session, ctx: &mut AccessCtx) -> Result<()> {
        self.judge_if_overdue(session, ctx)
    }

    /// Has the request judged again every 10 seconds from now on, and cut once it is no longer
    /// allowed.
    ///
    /// Without [`Cuttable`] around the proxy this does nothing.
    pub fn watch(&self, session: &Session, ctx: &mut AccessCtx) {
        self.begin_watch(session, ctx, JUDGED_EVERY);
    }

    fn begin_watch(&self, session: &Session, ctx: &mut AccessCtx, first: Duration) {
        if ctx.watch.is_watched || !is_possible() {
            return;
        }
        if let Some(running) = self.copy_running(session, ctx) {
            ctx.watch.is_watched = true;
            begin(running, first);
        }
    }

    fn judge_if_overdue(&self, session: &Session, ctx: &mut AccessCtx) -> Result<()> {
        if !ctx.watch.is_overdue() {
            return Ok(());
        }
        let Some(running) = self.copy_running(session, ctx) else {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit");
        };
        ctx.watch.judged = Some(Instant::now());
        let reason = match running.judge_now() {
            Standing::Allowed => {
                self.begin_watch(session, ctx, JUDGED_EVERY);
                return Ok(());
            }
            // The watch can wait for what is missing. This function cannot.
            Standing::Unknown if is_possible() => {
                self.begin_watch(session, ctx, Duration::ZERO);
                return Ok(());
            }
            Standing::Unknown => None,
            Standing::Ended(reason) => reason,
        };
        ctx.end(running.record_cut(reason));
        ctx.watch.ended = reason;
        Error::e_explain(
            ErrorType::HTTPStatus(403),
            "the request is no longer allowed",
        )
    }
}

impl AccessCtx {
    /// The reason for which a running request has ended.
    pub(super) const fn ended(&self) -> Option<Reason> {
        self.watch.ended
    }
}

/// Returns `true` if a message with these headers may go on for long: its length is unknown, or
/// large.
fn may_last(headers: &HeaderMap) -> bool {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_none_or(|length| length > LARGE)
}

/// Resolves when the request has to end.
type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The watch over the request of a task.
#[derive(Default)]
struct Slot {
    watch: Option<Watch>,
    /// `true` if the watch was begun after the last poll.
    is_new: bool,
}

tokio::task_local! {
    static SLOT: RefCell<Slot>;
}

/// An HTTP application whose running requests can be cut.
///
/// Wrap Pingora's `HttpProxy` in it, and call the hooks of [`AccessFilter`] for running requests. A
/// request that is cut is dropped together with its connection to the origin: over HTTP/1.1 the
/// client's connection closes, over HTTP/2 its stream is reset and others go on, at the client and
/// at the origin. Pingora keeps an HTTP/2 connection to an origin whose last stream was cut until
/// another request takes it or the origin closes it.
#[derive(Debug)]
pub struct Cuttable<A>(Arc<A>);

impl<A> Cuttable<A> {
    /// Wraps an application.
    pub fn new(app: A) -> Self {
        Self(Arc::new(app))
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Cuttable<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let request = self.0.process_new_http(session, shutdown);
        SLOT.scope(RefCell::default(), until_cut(request)).await?
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}

/// Returns the output of `request`, or `None` if its watch resolves before.
async fn until_cut<R: Future>(request: R) -> Option<R::Output> {
    let mut request = pin!(request);
    poll_fn(|context| {
        // The watch goes first. A request that never rests uses up the task's cooperative budget,
        // without which no timer fires.
        if poll_watch(context, |_| true).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = request.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        // A watch that the request has just begun does not wake this task before its first poll.
        poll_watch(context, |slot| slot.is_new).map(|()| None)
    })
    .await
}

fn poll_watch(context: &mut Context<'_>, condition: impl FnOnce(&Slot) -> bool) -> Poll<()> {
    SLOT.with(|slot| {
        let Ok(mut slot) = slot.try_borrow_mut() else {
            return Poll::Pending;
        };
        if !condition(&slot) {
            return Poll::Pending;
        }
        slot.is_new = false;
        slot.watch
            .as_mut()
            .map_or(Poll::Pending, |watch| watch.as_mut().poll(context))
    })
}

/// Returns `true` if the request of this task can be cut.
pub(super) fn is_possible() -> bool {
    SLOT.try_with(|_| ()).is_ok()
}

/// Has the request of this task judged every [`JUDGED_EVERY`], for the first time after `first`,
/// and cut once it is not allowed.
pub(super) fn begin(request: impl Judge, first: Duration) {
    begin_every(request, first, JUDGED_EVERY);
}

fn begin_every(request: impl Judge, first: Duration, every: Duration) {
    let watch = Box::pin(async move {
        let reason = until_ended(&request, first, every).await;
        request.record_cut(reason);
    });
    let _outside = SLOT.try_with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            *slot = Slot {
                watch: Some(watch),
                is_new: true,
            };
        }
    });
}

/// Waits until a request is no longer allowed. The result may be unknown once, but not twice in a
/// row.
async fn until_ended(request: &impl Judge, first: Duration, every: Duration) -> Option<Reason> {
    let mut next = Instant::now() + first;
    let mut was_unknown = false;
    loop {
        sleep_until(next).await;
        next = Instant::now() + every;
        // A judgement that does not end must not keep the request alive.
        match timeout(every, request.judge())
            .await
            .unwrap_or(Standing::Unknown)
        {
            Standing::Allowed => was_unknown = false,
            Standing::Unknown if !was_unknown => was_unknown = true,
            Standing::Unknown => return None,
            Standing::Ended(reason) => return reason,
        }
    }
}

/// The length of a message in bytes above which it is watched.
const LARGE: u64 = 1 << 20;
/// The interval in which running requests are judged again, and the most time for one judgement.
pub(super) const JUDGED_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A request with these results in turn; judgements after the last one never end.
    #[derive(Default)]
    struct Scripted {
        results: Vec<Standing>,
        judged: AtomicUsize,
        cut: Arc<Mutex<Option<Option<Reason>>>>,
    }

    impl Scripted {
        fn new(results: &[Standing]) -> Self {
            Self {
                results: results.to_vec(),
                ..Self::default()
            }
        }
    }

    impl Judge for Scripted {
        async fn judge(&self) -> Standing {
            match self
                .results
                .get(self.judged.fetch_add(1, Ordering::Relaxed))
            {
                Some(result) => *result,
                None => pending().await,
            }
        }

        fn record_cut(&self, reason: Option<Reason>) -> RequestId {
            *self.cut.lock().unwrap() = Some(reason);
            RequestId::random()
        }
    }

    async fn ended(results: &[Standing]) -> (Option<Reason>, usize) {
        let request = Scripted::new(results);
        let end = timeout(PATIENCE, until_ended(&request, SOON, SOON))
            .await
            .expect("the request goes on");
        (end, request.judged.into_inner())
    }

    #[tokio::test]
    async fn request_ends_when_it_is_no_longer_allowed() {
        let revoked = Standing::Ended(Some(Reason::SessionRevoked));
        assert_eq!(
            ended(&[Standing::Allowed, revoked]).await,
            (Some(Reason::SessionRevoked), 2)
        );
        assert_eq!(
            ended(&[Standing::Unknown, revoked]).await,
            (Some(Reason::SessionRevoked), 2)
        );
    }

    #[tokio::test]
    async fn unknown_result_is_tolerated_once() {
        let (allowed, unknown) = (Standing::Allowed, Standing::Unknown);
        assert_eq!(
            ended(&[unknown, allowed, unknown, unknown]).await,
            (None, 4)
        );
    }

    #[tokio::test]
    async fn judgement_that_never_ends_is_unknown() {
        assert_eq!(ended(&[]).await, (None, 2));
        assert_eq!(
            ended(&[Standing::Allowed, Standing::Unknown]).await,
            (None, 3)
        );
    }

    #[tokio::test]
    async fn request_that_never_rests_is_cut() {
        let request = Scripted::new(&[Standing::Allowed, Standing::Ended(None)]);
        let cut = Arc::clone(&request.cut);
        let busy = async {
            begin_every(request, SOON, SOON);
            loop {
                tokio::task::consume_budget().await;
            }
        };
        let end = timeout(PATIENCE, SLOT.scope(RefCell::default(), until_cut(busy))).await;
        assert!(end.expect("the request goes on").is_none());
        assert_eq!(*cut.lock().unwrap(), Some(None));
    }

    #[tokio::test]
    async fn request_that_rests_after_it_began_its_watch_is_cut() {
        let silent = async {
            for _ in 0..2 {
                begin(Scripted::new(&[Standing::Ended(None)]), SOON);
                tokio::task::yield_now().await;
            }
            pending::<()>().await;
        };
        let end = timeout(PATIENCE, SLOT.scope(RefCell::default(), until_cut(silent))).await;
        assert!(end.expect("the request goes on").is_none());
    }

    #[tokio::test]
    async fn request_without_watch_runs_to_its_end() {
        assert!(!is_possible());
        let request = async {
            tokio::task::yield_now().await;
            is_possible()
        };
        assert_eq!(
            SLOT.scope(RefCell::default(), until_cut(request)).await,
            Some(true)
        );
    }
}
