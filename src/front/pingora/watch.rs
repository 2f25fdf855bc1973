//! The end of running requests, in Pingora's hooks.
//!
//! Decides in which hook a request is watched, and how it is cut. Trusts the gate, which decides when
//! it has to end. Never prolongs a request. A message of known, small length starts a watch only if
//! it takes long. Any other message starts one at once and copies the request's head for it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result, Session};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use super::response::is_bodiless;
use super::{AccessCtx, AccessFilter};
use crate::gate::{EVALUATE_EVERY, Evaluate, Reevaluation, may_last, until_ended};
use crate::model::Reason;

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
            Reevaluation::Allowed => {
                self.begin_watch(session, ctx, EVALUATE_EVERY);
                return Ok(());
            }
            // The watch can wait for missing facts. This function cannot.
            Reevaluation::Unknown if is_possible() => {
                self.begin_watch(session, ctx, Duration::ZERO);
                return Ok(());
            }
            Reevaluation::Unknown => None,
            Reevaluation::Ended(reason) => reason,
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;
    use crate::gate::Scripted;

    const SOON: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn request_that_never_rests_is_cut() {
        let request = Scripted::new(&[Reevaluation::Allowed, Reevaluation::Ended(None)]);
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
                begin(Scripted::new(&[Reevaluation::Ended(None)]), SOON);
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
