//! The end of running requests: whatever goes on for long is allowed only for as long as a new request would be.
//!
//! Decides when a running request is judged again and when it is cut. Trusts the engine, which answers as for a new request.
//! Never prolongs a request, and costs short requests nothing but a pointer: they begin no watch.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;

/// Resolves when the request has to end.
type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

tokio::task_local! {
    /// The watch over the request that runs in this task, once it has one.
    static WATCH: RefCell<Option<Watch>>;
}

/// An HTTP application whose running requests can be cut.
///
/// Wrap Pingora's `HttpProxy` in it. A request that is cut is dropped together with its connection to the origin: over HTTP/1.1
/// the client's connection closes, over HTTP/2 its stream is reset and others go on.
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
        let until_cut = async {
            tokio::select! {
                biased;
                reusable = request => reusable,
                () = cut() => None,
            }
        };
        WATCH.scope(RefCell::new(None), until_cut).await
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

/// Resolves when the watch over this request does. It is polled after the request itself, which may have begun the watch.
async fn cut() {
    poll_fn(|context| {
        WATCH.with(|watch| match watch.try_borrow_mut().as_deref_mut() {
            Ok(Some(watch)) => watch.as_mut().poll(context),
            Ok(None) | Err(_) => Poll::Pending,
        })
    })
    .await;
}

/// Returns `true` if the request of this task can be cut.
pub(super) fn is_possible() -> bool {
    WATCH.try_with(|_| ()).is_ok()
}

/// Cuts the request of this task once `watch` resolves. A watch that was begun before is replaced.
pub(super) fn begin(watch: impl Future<Output = ()> + Send + 'static) {
    let _outside = WATCH.try_with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            *slot = Some(Box::pin(watch));
        }
    });
}
