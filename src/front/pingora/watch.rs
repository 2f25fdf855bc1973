//! The end of running requests: a long request continues only as long as a new one would be
//! allowed.
//!
//! Decides when a running request is evaluated again and when it is cut. Trusts the engine, which
//! decides as for a new request. Never prolongs a request. A message of known, small length starts a
//! watch only if it takes long. Any other message starts one at once and copies the request's head
//! for it.

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

/// A running request that can be evaluated again.
pub(super) trait Evaluate: Send + Sync + 'static {
    /// Evaluates the request as a new one.
    fn evaluate(&self) -> impl Future<Output = Standing> + Send;

    /// Records that the request is cut, and returns the id of the record.
    fn record_cut(&self, reason: Option<Reason>) -> RequestId;
}

/// The progress of the watch over a request, in its context.
#[derive(Debug, Default)]
pub(super) struct WatchState {
    /// The time of the last evaluation, until the request is watched.
    evaluated: Option<Instant>,
    is_watched: bool,
    /// The reason of the end, if the request has ended.
    ended: Option<Reason>,
}

impl WatchState {
    pub(super) fn admitted() -> Self {
        Self {
            evaluated: Some(Instant::now()),
            ..Self::default()
        }
    }

    fn is_overdue(&self) -> bool {
        !self.is_watched
            && self
                .evaluated
                .is_some_and(|evaluated| evaluated.elapsed() >= EVALUATE_EVERY)
    }
}

/// Long requests. Call each function from the hook of `ProxyHttp` with the same name.
///
/// A message of unknown length or over 1 MiB starts a watch at once: it is evaluated every 10
/// seconds, and cut within 30 seconds after access has ended. Any other message is evaluated again
/// when a part of it moves after more than 10 seconds. If access has ended, that part does not pass.
/// Only [`Cuttable`] can end idle requests.
impl AccessFilter {
    /// Evaluates the request while its body is forwarded.
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
        self.evaluate_if_overdue(session, ctx)
    }

    /// Evaluates the request when its response has arrived, before any of it is used.
    ///
    /// # Errors
    /// As [`AccessFilter::request_body_filter`].
    pub fn response_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        self.evaluate_if_overdue(session, ctx)?;
        let is_tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel
            || !is_bodiless(&session.req_header().method, response.status)
                && may_last(&response.headers)
        {
            self.watch(session, ctx);
        }
        Ok(())
    }

    /// Evaluates the request while the body of its response is forwarded.
    ///
    /// # Errors
    /// As [`AccessFilter::request_body_filter`].
    pub fn response_body_filter(&self, session: &Session, ctx: &mut AccessCtx) -> Result<()> {
        self.evaluate_if_overdue(session, ctx)
    }

    /// Starts to evaluate the request every 10 seconds. It is cut once it is no longer allowed.
    ///
    /// Without [`Cuttable`] around the proxy this does nothing.
    pub fn watch(&self, session: &Session, ctx: &mut AccessCtx) {
        self.begin_watch(session, ctx, EVALUATE_EVERY);
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

    fn evaluate_if_overdue(&self, session: &Session, ctx: &mut AccessCtx) -> Result<()> {
        if !ctx.watch.is_overdue() {
            return Ok(());
        }
        let Some(running) = self.copy_running(session, ctx) else {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit");
        };
        ctx.watch.evaluated = Some(Instant::now());
        let reason = match running.evaluate_now() {
            Standing::Allowed => {
                self.begin_watch(session, ctx, EVALUATE_EVERY);
                return Ok(());
            }
            // The watch can wait for missing facts. This function cannot.
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
    /// Returns the reason for the end of a running request.
    pub(super) const fn ended(&self) -> Option<Reason> {
        self.watch.ended
    }
}

/// Returns `true` if a message with these headers may take long: its length is unknown or large.
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
    /// `true` if the watch was started after the last poll.
    is_new: bool,
}

tokio::task_local! {
    static SLOT: RefCell<Slot>;
}

/// An HTTP application whose running requests can be cut.
///
/// Wrap Pingora's `HttpProxy` in it, and call the hooks of [`AccessFilter`] for running requests.
/// Cutting a request drops it together with its connection to the origin. Over HTTP/1.1 the
/// connection closes. Over HTTP/2 the stream is reset, and other streams continue. After the last
/// stream was cut, Pingora keeps an HTTP/2 connection until another request uses it or the origin
/// closes it.
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
        // Poll the watch first. A request that is always ready uses up the task's cooperative
        // budget, and then no timer fires.
        if poll_watch(context, |_| true).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = request.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        // A watch that was just started does not wake this task until it is polled once.
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

/// Starts to evaluate the request of this task every [`EVALUATE_EVERY`], first after `first`. The
/// request is cut once it is no longer allowed.
pub(super) fn begin(request: impl Evaluate, first: Duration) {
    begin_every(request, first, EVALUATE_EVERY);
}

fn begin_every(request: impl Evaluate, first: Duration, every: Duration) {
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

/// Waits until a request is no longer allowed. One unknown result is tolerated, but not two in a
/// row.
async fn until_ended(request: &impl Evaluate, first: Duration, every: Duration) -> Option<Reason> {
    let mut next = Instant::now() + first;
    let mut was_unknown = false;
    loop {
        sleep_until(next).await;
        next = Instant::now() + every;
        // An evaluation that does not end must not keep the request alive.
        match timeout(every, request.evaluate())
            .await
            .unwrap_or(Standing::Unknown)
        {
            Standing::Allowed => was_unknown = false,
            // A short outage of the store must not cut every long request.
            Standing::Unknown if !was_unknown => was_unknown = true,
            Standing::Unknown => return None,
            Standing::Ended(reason) => return reason,
        }
    }
}

/// The length of a message in bytes above which it is watched.
// A smaller message is usually complete before the first evaluation, and a watch costs a copy of
// the head.
const LARGE: u64 = 1 << 20;
/// The interval of evaluations of running requests, and the time limit for one evaluation.
pub(super) const EVALUATE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A request with these results in turn. Evaluations after the last one never end.
    #[derive(Default)]
    struct Scripted {
        results: Vec<Standing>,
        evaluated: AtomicUsize,
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

    impl Evaluate for Scripted {
        async fn evaluate(&self) -> Standing {
            match self
                .results
                .get(self.evaluated.fetch_add(1, Ordering::Relaxed))
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
        (end, request.evaluated.into_inner())
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
    async fn evaluation_that_never_ends_is_unknown() {
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
    async fn request_that_is_idle_after_its_watch_began_is_cut() {
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
