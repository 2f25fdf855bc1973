//! A custom Pingora proxy with the Access check.
//!
//! ```sh
//! OKTA_CLIENT_SECRET=… cargo run --example embed -- embed.toml
//! ```
//!
//! The file is a configuration as for `portcullis run`, except that `[[listen]]` and `origin` are
//! optional: this proxy chooses its own listeners and peers. For TLS, enable one of Pingora's
//! features.

#![expect(
    clippy::disallowed_types,
    reason = "an embedder works with Pingora's session"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorType, HttpPeer, ProxyHttp, Result, Server, Session};
use pingora::proxy::http_proxy;
use pingora::services::listening::Service;
use portcullis::config::{self, System};
use portcullis::control::{Control, NoOrigins};
use portcullis::front::pingora::{AccessCtx, AccessFilter, Cuttable, FilterSettings};

struct MyProxy {
    access: AccessFilter,
}

#[async_trait]
impl ProxyHttp for MyProxy {
    type CTX = AccessCtx;

    fn new_ctx(&self) -> AccessCtx {
        AccessCtx::default()
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut AccessCtx) -> Result<bool> {
        self.access.request_filter(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut AccessCtx,
    ) -> Result<Box<HttpPeer>> {
        if ctx.permit().is_none() {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit");
        }
        Ok(Box::new(HttpPeer::new(
            "127.0.0.1:8080",
            false,
            String::new(),
        )))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        self.access.upstream_request_filter(session, request, ctx)
    }

    // The following hooks end long requests when access ends.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        self.access.request_body_filter(session, end_of_stream, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut AccessCtx,
    ) -> Result<()> {
        self.access.response_filter(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut AccessCtx,
    ) -> Result<Option<Duration>> {
        self.access
            .response_body_filter(session, ctx)
            .map(|()| None)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "portcullis.toml".to_owned()),
    );
    let config = config::load_embedded(&file, &System)?.config;
    let control = Control::start(&config, NoOrigins)?;
    control.follow(&file, config::load_embedded);
    let access = AccessFilter::new(Arc::clone(control.access()), FilterSettings::from(&config));

    let mut server = Server::new(None)?;
    server.bootstrap();
    // `Cuttable` also ends idle requests, such as a tunnel without traffic.
    let proxy = Cuttable::new(http_proxy(&server.configuration, MyProxy { access }));
    let mut proxy = Service::new("proxy".to_owned(), proxy);
    proxy.add_tcp("127.0.0.1:8000");
    server.add_service(proxy);
    server.run_forever()
}
