mod proxied;

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Sends these bytes to every connection, and counts the connections.
async fn server(answer: impl Into<Vec<u8>>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count, answer) = (
        listener.local_addr().unwrap().port(),
        Arc::new(AtomicUsize::new(0)),
        answer.into(),
    );
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    (port, count)
}

fn client() -> HttpClient {
    let timeouts = Timeouts {
        connect: Duration::from_millis(300),
        total: Duration::from_millis(300),
    };
    HttpClient::new(&Roots::default(), timeouts).unwrap()
}

async fn get(url: &str, limit: usize) -> Result<Response, HttpError> {
    client()
        .get(&Url::parse(url).unwrap(), HeaderMap::new(), limit)
        .await
}

#[tokio::test]
async fn name_under_localhost_is_the_loopback_interface() {
    let (port, _) = server(
        "HTTP/1.1 404 x\r\ncontent-type: Text/HTML; charset=x\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    let response = get(&format!("http://deep.idp.localhost:{port}/"), 2)
        .await
        .unwrap();
    assert_eq!(
        (response.status.as_u16(), response.body.as_ref()),
        (404, b"hi".as_slice())
    );
    assert!(response.is_type("text/html") && !response.is_type("application/json"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (there, visits) = server("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await;
    let (port, _) = server(format!(
        "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:{there}/\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    assert_eq!(
        get(&format!("http://127.0.0.1:{port}/"), 9)
            .await
            .unwrap()
            .status,
        StatusCode::FOUND
    );
    assert_eq!(visits.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn body_limit_applies_with_and_without_content_length() {
    for head in ["content-length: 11", "connection: close"] {
        let (port, _) = server(format!("HTTP/1.1 200 x\r\n{head}\r\n\r\nhello world")).await;
        let failure = get(&format!("http://127.0.0.1:{port}/"), 10)
            .await
            .unwrap_err();
        assert!(
            matches!(failure, HttpError::TooLarge { limit: 10, .. }),
            "{head}: {failure:?}"
        );
    }
    let (port, _) =
        server("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n").await;
    let url = format!("http://127.0.0.1:{port}/");
    assert!(matches!(
        get(&url, 10).await,
        Err(HttpError::TooLarge { .. })
    ));
    assert_eq!(get(&url, 11).await.unwrap().body.as_ref(), b"hello world");
}

#[tokio::test]
async fn failures_are_distinct_and_never_show_the_query() {
    let (silent, tries) = server("").await;
    let (garbage, _) = server("SSH-2.0-x\r\n").await;
    let (short, _) = server("HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nx").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = listener.local_addr().unwrap().port();
    type Check = fn(&HttpError) -> bool;
    let cases: [(String, Check); 8] = [
        (format!("http://127.0.0.1:{silent}"), |e| {
            matches!(
                e,
                HttpError::Protocol {
                    step: Step::Answer,
                    ..
                }
            )
        }),
        (format!("http://127.0.0.1:{garbage}"), |e| {
            matches!(
                e,
                HttpError::Protocol {
                    step: Step::Answer,
                    ..
                }
            )
        }),
        (format!("http://127.0.0.1:{short}"), |e| {
            matches!(
                e,
                HttpError::Protocol {
                    step: Step::Body,
                    ..
                }
            )
        }),
        (format!("http://127.0.0.1:{hanging}"), |e| {
            matches!(
                e,
                HttpError::Timeout {
                    step: Step::Answer,
                    ..
                }
            )
        }),
        ("http://127.0.0.1:1".into(), |e| {
            matches!(e, HttpError::Connect { .. })
        }),
        (format!("https://127.0.0.1:{garbage}"), |e| {
            matches!(e, HttpError::Tls { .. })
        }),
        ("http://name.invalid".into(), |e| {
            matches!(e, HttpError::Resolve { .. } | HttpError::Timeout { .. })
        }),
        ("ftp://127.0.0.1".into(), |e| {
            matches!(e, HttpError::Url { .. })
        }),
    ];
    for (origin, check) in cases {
        let failure = get(&format!("{origin}/path?code=topsecret"), 99)
            .await
            .unwrap_err();
        assert!(check(&failure), "{origin}: {failure:?}");
        let mut shown = format!("{failure} {failure:?}");
        let mut next = failure.source();
        while let Some(cause) = next {
            shown += &format!(" {cause} {cause:?}");
            next = cause.source();
        }
        assert!(
            !shown.contains("topsecret") && !shown.contains("/path"),
            "{shown}"
        );
    }
    assert_eq!(tries.load(Ordering::Relaxed), 1, "never a second time");
}

/// Only a client that trusts the server's root gets a response.
#[tokio::test]
async fn server_is_verified_with_system_and_extra_roots() {
    let key = rcgen::generate_simple_self_signed(vec!["idp.localhost".to_owned()]).unwrap();
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
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming().take(3).flatten() {
            let mut stream = stream;
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let mut request = [0; 1024];
            if std::io::Read::read(&mut tls, &mut request).is_ok() {
                let _ = std::io::Write::write_all(
                    &mut tls,
                    b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok",
                );
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, key.cert.pem()).unwrap();
    let trusting = HttpClient::new(
        &Roots {
            extra: Some(path.clone()),
        },
        Timeouts::default(),
    )
    .unwrap();
    let at = |name: &str| Url::parse(&format!("https://{name}:{port}/")).unwrap();
    assert_eq!(
        trusting
            .get(&at("idp.localhost"), HeaderMap::new(), 9)
            .await
            .unwrap()
            .body
            .as_ref(),
        b"ok"
    );
    let other_name = trusting
        .get(&at("other.localhost"), HeaderMap::new(), 9)
        .await;
    assert!(
        matches!(other_name, Err(HttpError::Tls { .. })),
        "{other_name:?}"
    );
    let stranger = client()
        .get(&at("idp.localhost"), HeaderMap::new(), 9)
        .await;
    assert!(
        matches!(stranger, Err(HttpError::Tls { .. })),
        "{stranger:?}"
    );

    std::fs::write(&path, "nothing").unwrap();
    let roots = |path| HttpClient::new(&Roots { extra: Some(path) }, Timeouts::default());
    assert!(matches!(roots(path.clone()), Err(RootsError::Empty { .. })));
    assert!(matches!(
        roots(path.join("missing")),
        Err(RootsError::Read { .. })
    ));
}
