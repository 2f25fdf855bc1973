//! Calls through a proxy that resolves every name to the loopback interface.

use std::sync::Mutex;

use super::*;
use crate::model::Secret;

/// A proxy that supports `CONNECT` only.
struct ConnectProxy {
    port: u16,
    /// The heads of all requests.
    heads: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Connects every client to `target`, or answers with `refusal`.
    async fn start(target: u16, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, heads) = (
            listener.local_addr().unwrap().port(),
            Arc::new(Mutex::new(Vec::new())),
        );
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = client.read_u8().await else {
                            break;
                        };
                        head.push(byte);
                    }
                    seen.lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(&head).into_owned());
                    if let Some(refusal) = refusal {
                        let _ = client.write_all(refusal.as_bytes()).await;
                        return;
                    }
                    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", target))
                        .await
                        .unwrap();
                    let _ = client
                        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        .await;
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn proxy(&self) -> Proxy {
        Proxy::parse(&format!("http://127.0.0.1:{}", self.port)).unwrap()
    }
}

/// A TLS server for `idp.example.test`, and a file with its certificate.
fn tls_server() -> (u16, tempfile::NamedTempFile) {
    let key = rcgen::generate_simple_self_signed(vec!["idp.example.test".to_owned()]).unwrap();
    let (cert, secret) = (key.cert.der().clone(), key.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![cert],
        rustls::pki_types::PrivateKeyDer::Pkcs8(secret.into()),
    )
    .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().take(8).flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let mut request = [0; 1024];
            if let Ok(length) = std::io::Read::read(&mut tls, &mut request) {
                let leaked = String::from_utf8_lossy(&request[..length])
                    .to_lowercase()
                    .contains("proxy-");
                let body: &[u8] = if leaked { b"no" } else { b"ok" };
                let _ = std::io::Write::write_all(
                    &mut tls,
                    b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n",
                );
                let _ = std::io::Write::write_all(&mut tls, body);
            }
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key.cert.pem()).unwrap();
    (port, file)
}

fn through(proxy: Proxy, ca: &tempfile::NamedTempFile) -> HttpClient {
    let roots = Roots {
        extra: Some(ca.path().to_owned()),
    };
    HttpClient::with_proxy(&roots, Timeouts::default(), Some(proxy)).unwrap()
}

async fn body(client: &HttpClient, url: &str) -> Result<Bytes, HttpError> {
    client
        .get(&Url::parse(url).unwrap(), HeaderMap::new(), 9)
        .await
        .map(|answer| answer.body)
}

#[tokio::test]
async fn https_uses_connect_and_is_verified_end_to_end() {
    let (target, ca) = tls_server();
    let proxy = ConnectProxy::start(target, None).await;
    let client = through(proxy.proxy(), &ca);
    assert_eq!(
        body(&client, "https://idp.example.test/path?code=topsecret")
            .await
            .unwrap()
            .as_ref(),
        b"ok"
    );
    let heads = proxy.heads();
    assert!(
        heads.len() == 1 && heads[0].starts_with("CONNECT idp.example.test:443 HTTP/1.1\r\n"),
        "{heads:?}"
    );
    assert!(
        !heads[0].to_lowercase().contains("proxy-authorization") && !heads[0].contains("topsecret"),
        "{heads:?}"
    );

    // A proxy that connects to another server gains nothing: the certificate is rejected.
    let other_name = body(&client, "https://other.example.test").await;
    assert!(
        matches!(other_name, Err(HttpError::Tls { .. })),
        "{other_name:?}"
    );
    let said = other_name.unwrap_err().to_string();
    assert!(
        said.contains(&format!(
            "through the proxy `http://127.0.0.1:{}`",
            proxy.port
        )),
        "{said}"
    );
    let (_, other_ca) = tls_server();
    let other_authority = body(
        &through(proxy.proxy(), &other_ca),
        "https://idp.example.test",
    )
    .await;
    assert!(
        matches!(other_authority, Err(HttpError::Tls { .. })),
        "{other_authority:?}"
    );
}

#[tokio::test]
async fn credentials_are_sent_to_the_proxy_only() {
    let (target, ca) = tls_server();
    let proxy = ConnectProxy::start(target, None).await;
    let secret = Secret::new("ann:hunter2");
    let client = through(proxy.proxy().with_credentials(&secret).unwrap(), &ca);
    assert_eq!(
        body(&client, "https://idp.example.test")
            .await
            .unwrap()
            .as_ref(),
        b"ok"
    );
    let head = proxy.heads()[0].to_lowercase();
    assert!(
        head.contains("proxy-authorization: basic yw5uomh1bnrlcji=\r\n"),
        "{head}"
    );
    assert!(
        !format!("{client:?}").contains("hunter2")
            && !format!("{client:?}").contains("YW5uOmh1bnRlcjI=")
    );

    let (plain, _) = server("HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(
        body(&client, &format!("http://127.0.0.1:{plain}/"))
            .await
            .unwrap()
            .as_ref(),
        b"ok"
    );
    assert_eq!(proxy.heads().len(), 1, "plain http is not proxied");
}

#[tokio::test]
async fn loopback_and_no_proxy_are_called_directly() {
    let (target, ca) = tls_server();
    let proxy = ConnectProxy::start(target, None).await;
    let direct = vec![Direct::parse("direct.invalid").unwrap()];
    let client = through(proxy.proxy().with_direct(direct), &ca);
    for url in [
        format!("https://127.0.0.1:{target}"),
        format!("https://idp.localhost:{target}"),
    ] {
        let failure = body(&client, &url).await.unwrap_err();
        assert!(
            matches!(failure, HttpError::Tls { .. }),
            "the certificate is for another name: {failure:?}"
        );
    }
    let failure = body(&client, "https://direct.invalid").await.unwrap_err();
    assert!(
        matches!(
            failure,
            HttpError::Resolve { .. } | HttpError::Timeout { .. }
        ),
        "{failure:?}"
    );
    assert_eq!(proxy.heads(), [""; 0]);
}

#[tokio::test]
async fn proxy_refusal_is_reported_without_credentials() {
    let (target, ca) = tls_server();
    for (refusal, word) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            "auth",
        ),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", ""),
        ("SSH-2.0-x\r\n\r\n", ""),
        ("", ""),
    ] {
        let proxy = ConnectProxy::start(target, Some(refusal)).await;
        let named = proxy
            .proxy()
            .with_credentials(&Secret::new("ann:hunter2"))
            .unwrap();
        let failure = body(
            &through(named, &ca),
            "https://idp.example.test/?code=topsecret",
        )
        .await
        .unwrap_err();
        assert!(
            matches!(failure, HttpError::Proxy { .. }),
            "{refusal}: {failure:?}"
        );
        let shown = format!("{} {failure:?}", failure.with_cause());
        let place = format!("through the proxy `http://127.0.0.1:{}`", proxy.port);
        assert!(
            shown.contains("`idp.example.test`") && shown.contains(&place) && shown.contains(word),
            "{shown}"
        );
        assert!(
            !shown.contains("hunter2") && !shown.contains("YW5u") && !shown.contains("topsecret"),
            "{shown}"
        );
        assert_eq!(proxy.heads().len(), 1, "never a second time");
    }
    let gone = Proxy::parse("http://127.0.0.1:1").unwrap();
    let failure = body(&through(gone, &ca), "https://idp.example.test")
        .await
        .unwrap_err();
    assert!(
        matches!(failure, HttpError::Proxy { .. }) && failure.advice().is_some(),
        "{failure:?}"
    );
    let nowhere = Proxy::parse("http://proxy.invalid:3128").unwrap();
    let failure = body(&through(nowhere, &ca), "https://idp.example.test")
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("`http://proxy.invalid:3128`"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn silent_or_untrusted_proxy_is_reported() {
    let (port, ca) = tls_server();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Proxy::parse(&format!(
        "http://127.0.0.1:{}",
        silent.local_addr().unwrap().port()
    ))
    .unwrap();
    let timeouts = Timeouts {
        connect: Duration::from_millis(300),
        total: Duration::from_secs(5),
    };
    let name = silent.to_string();
    let client = HttpClient::with_proxy(&Roots::default(), timeouts, Some(silent)).unwrap();
    let failure = body(&client, "https://idp.example.test").await.unwrap_err();
    assert!(
        matches!(
            failure,
            HttpError::Timeout {
                step: Step::Connect,
                ..
            }
        ),
        "{failure:?}"
    );
    assert!(
        failure
            .to_string()
            .contains(&format!("through the proxy `{name}`")),
        "{failure}"
    );
    let advice = failure.advice().unwrap();
    assert!(
        advice.contains("`CONNECT`") && !advice.contains("if a proxy leads there"),
        "{advice}"
    );

    // The proxy's certificate is for another name.
    let untrusted = Proxy::parse(&format!("https://127.0.0.1:{port}")).unwrap();
    let failure = body(&through(untrusted, &ca), "https://idp.example.test")
        .await
        .unwrap_err();
    assert!(matches!(failure, HttpError::Tls { .. }), "{failure:?}");
    assert!(
        failure
            .to_string()
            .contains(&format!("through the proxy `https://127.0.0.1:{port}`")),
        "{failure}"
    );
    assert!(failure.advice().unwrap().contains("the proxy itself"));
}
