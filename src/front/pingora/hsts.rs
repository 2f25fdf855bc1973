use std::any::Any;
use std::net::SocketAddr;

use async_trait::async_trait;
use http::{HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora::prelude::{Result, Session};

/// The `Strict-Transport-Security` header of a TLS listener (RFC 6797 6.1).
#[derive(Clone, Debug)]
pub struct HstsListener {
    /// The address and port that the listener is bound to.
    pub address: SocketAddr,
    /// The value of the header.
    pub header: HeaderValue,
}

/// Adds the header to each response, ours or the origin's. A header of the origin's own is kept.
#[derive(Debug, Default)]
pub(super) struct Hsts(Option<HeaderValue>);

/// Makes an inactive [`Hsts`] for each request.
pub(super) struct HstsBuilder;

impl HttpModuleBuilder for HstsBuilder {
    fn init(&self) -> Module {
        Box::new(Hsts::default())
    }
}

/// Activates the header for a request that came over TLS: browsers ignore it otherwise (RFC 6797
/// 7.2).
pub(super) fn activate(session: &mut Session, listeners: &[HstsListener]) {
    let Some(digest) = session
        .digest()
        .filter(|digest| digest.ssl_digest.is_some())
    else {
        return;
    };
    let local = digest
        .socket_digest
        .as_ref()
        .and_then(|socket| socket.local_addr())
        .and_then(|addr| addr.as_inet());
    let listener = local.and_then(|local| {
        listeners
            .iter()
            .find(|l| super::filter::is_bound_to(l.address, local))
    });
    let header = listener.map(|listener| listener.header.clone());
    if let Some(module) = session.downstream_modules_ctx.get_mut::<Hsts>() {
        module.0 = header;
    }
}

#[async_trait]
impl HttpModule for Hsts {
    async fn response_header_filter(
        &mut self,
        response: &mut ResponseHeader,
        _end: bool,
    ) -> Result<()> {
        if let Some(header) = &self.0
            && !response
                .headers
                .contains_key(header::STRICT_TRANSPORT_SECURITY)
        {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, header.clone())?;
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
