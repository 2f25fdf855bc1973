//! Reports about the certificates of listeners: by `check`, at the start, and at a renewal.

use std::process::Command;
use std::time::Duration;

use crate::support::certs::Certificate;
use crate::support::portcullis::{Config, Portcullis, free_address};
use crate::support::raw::Connection;
use crate::support::{APPLICATIONS, Idp, at};

const DAY: i64 = 86_400;
const HOSTS: [&str; 5] = [
    "access.test",
    "wiki.test",
    "pay.test",
    "open.test",
    "app.test",
];

/// `portcullis check` on an ordinary configuration with these files: its exit code, and its lines
/// about certificates.
fn check(certificate: &str, key: &str) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new("http://127.0.0.1:9", APPLICATIONS);
    config.tls = true;
    let text = at(config, "http://127.0.0.1:8").text(free_address(), free_address());
    for (name, content) in [
        ("portcullis.toml", text.as_str()),
        ("cert.pem", certificate),
        ("key.pem", key),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command
        .args(["check", "-c", "portcullis.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let place = ": listen[0].tls.certificate: ";
    let about = said.lines().filter_map(|line| {
        let (before, message) = line.split_once(place)?;
        let (level, position) = before
            .split_once(": portcullis.toml:")
            .expect("a line and a column");
        assert!(
            position
                .split(':')
                .all(|number| number.parse::<usize>().is_ok_and(|n| n > 0)),
            "{line}"
        );
        Some(format!("{level}: {message}"))
    });
    let about: Vec<_> = about.collect();
    let broken = about.iter().any(|line| line.starts_with("error"));
    assert_eq!(said.contains(": valid: "), !broken, "{said}");
    (output.status.code(), about)
}

/// Expects one line that begins so and holds these words.
#[track_caller]
fn assert_said(outcome: &(Option<i32>, Vec<String>), code: i32, begins: &str, words: &[&str]) {
    let (found, lines) = outcome;
    assert_eq!((*found, lines.len()), (Some(code), 1), "{lines:?}");
    assert!(
        lines[0].starts_with(begins) && words.iter().all(|word| lines[0].contains(word)),
        "{lines:?}"
    );
}

#[test]
fn valid_certificate_logs_nothing() {
    let good = Certificate::valid(&HOSTS, -DAY, 15 * DAY);
    assert_eq!(check(&good.pem, &good.key_pem), (Some(0), vec![]));
    // A byte order mark and line ends of other systems.
    let bom = |pem: &str| format!("\u{feff}{}", pem.replace('\n', "\r\n"));
    assert_eq!(
        check(&bom(&good.pem), &bom(&good.key_pem)),
        (Some(0), vec![])
    );
}

#[test]
fn validity_of_a_certificate_is_checked() {
    let at = |start, end| {
        let certificate = Certificate::valid(&HOSTS, start, end);
        check(&certificate.pem, &certificate.key_pem)
    };
    assert_said(
        &at(-30 * DAY, -DAY),
        2,
        "error: ",
        &["`cert.pem` expired on 20", "clients reject it"],
    );
    assert_said(&at(-30 * DAY, -60), 2, "error: ", &["expired"]);
    assert_said(&at(DAY, 30 * DAY), 2, "error: ", &["is valid only from 20"]);
    assert_said(
        &at(-30 * DAY, 13 * DAY + 3600),
        0,
        "warning: ",
        &["expires in 13 days, on 20"],
    );
    assert_said(
        &at(-30 * DAY, 3600),
        0,
        "warning: ",
        &["expires within a day"],
    );
}

#[test]
fn names_of_a_certificate_are_compared_with_the_hosts() {
    let other = Certificate::valid(&["portal.example.com"], -DAY, 365 * DAY);
    let said = check(&other.pem, &other.key_pem);
    assert_said(
        &said,
        0,
        "warning: ",
        &[
            "`access.test`",
            "`wiki.test`",
            "it is for `portal.example.com`",
        ],
    );
    let most = Certificate::valid(&HOSTS[..4], -DAY, 365 * DAY);
    let said = check(&most.pem, &most.key_pem);
    assert_said(&said, 0, "warning: ", &["is not valid for `app.test`; "]);
    let none = Certificate::valid(&[], -DAY, 365 * DAY);
    assert_said(
        &check(&none.pem, &none.key_pem),
        0,
        "warning: ",
        &["it lists no host name"],
    );
}

#[test]
fn certificate_must_fit_its_key() {
    let [one, two] = [(); 2].map(|()| Certificate::valid(&HOSTS, -DAY, 365 * DAY));
    assert_said(
        &check(&one.pem, &two.key_pem),
        2,
        "error: ",
        &["the key `key.pem` does not match", "`cert.pem`"],
    );
    let reversed = format!("{}{}", two.pem, one.pem);
    assert_said(
        &check(&reversed, &one.key_pem),
        2,
        "error: ",
        &["is number 2 in the file and must be the first"],
    );
    assert_eq!(check(&reversed, &two.key_pem), (Some(0), vec![]));
    let encrypted = two.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_said(
        &check(&two.pem, &encrypted),
        2,
        "error: ",
        &["is encrypted", "openssl pkey"],
    );
    let damaged = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(check(damaged, &two.key_pem).0, Some(2));
}

#[test]
fn unusable_certificate_ends_the_start_first() {
    let [one, two] = [(); 2].map(|()| Certificate::valid(&HOSTS, -DAY, 365 * DAY));
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new("http://127.0.0.1:9", APPLICATIONS);
    config.tls = true;
    // The address of the first listener is taken, which a start notices when it binds.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = at(config, "http://127.0.0.1:8").text(taken.local_addr().unwrap(), free_address());
    for (name, content) in [
        ("portcullis.toml", &text),
        ("cert.pem", &one.pem),
        ("key.pem", &two.key_pem),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command
        .args(["run", "-c", "portcullis.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: the key `key.pem` does not match the certificate `cert.pem`"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        !folder.path().join("portcullis.db").exists(),
        "a store was made"
    );
}

#[test]
fn expired_intermediate_is_a_warning() {
    let leaf = Certificate::valid(&HOSTS, -DAY, 365 * DAY);
    let issuer = Certificate::valid(&["issuer.test"], -30 * DAY, -DAY);
    let said = check(&format!("{}{}", leaf.pem, issuer.pem), &leaf.key_pem);
    assert_said(
        &said,
        0,
        "warning: ",
        &["the intermediate certificate 2 of"],
    );
}

/// A configuration with a file of certificate authorities wherever there can be one.
fn with_authorities() -> String {
    format!(
        r#"
[outgoing]
ca = "outgoing.pem"

[[certificates]]
name = "Devices"
ca = "devices.pem"
associated_hostnames = ["wiki.test"]

{}

[[applications]]
domain = "tls.$TLD"
origin = "https://127.0.0.1:9"
origin_settings = {{ ca = "origins.pem" }}
"#,
        APPLICATIONS
    )
}

#[test]
fn expiring_certificate_authority_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Certificate::valid(&HOSTS, -DAY, 365 * DAY);
    let authority = |start, end| Certificate::valid(&["Example CA"], start, end).pem;
    let good = authority(-DAY, 365 * DAY);
    let mut config = Config::new("http://127.0.0.1:9", &with_authorities());
    config.tls = true;
    let text = at(config, "http://127.0.0.1:8").text(free_address(), free_address());
    let run = |files: [(&str, &str); 3], strict: bool| {
        let own = [
            ("portcullis.toml", text.as_str()),
            ("cert.pem", &listener.pem),
            ("key.pem", &listener.key_pem),
        ];
        for (name, content) in own.into_iter().chain(files) {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .args(["check", "-c", "portcullis.toml"])
            .current_dir(folder.path());
        let output = if strict {
            command.arg("--strict")
        } else {
            &mut command
        }
        .output()
        .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let about: Vec<_> = said
            .lines()
            .filter(|line| line.contains("certificate authorit"))
            .map(str::to_owned)
            .collect();
        (output.status.code(), about)
    };
    let keys = [
        ("outgoing.pem", "outgoing.ca: "),
        ("devices.pem", "certificates[0].ca: "),
        ("origins.pem", ".origin_settings.ca: "),
    ];
    let (code, said) = run(keys.map(|(file, _)| (file, good.as_str())), false);
    assert_eq!((code, said), (Some(0), vec![]));
    for (start, end, words) in [
        (-30 * DAY, -DAY, "expired on 20"),
        (-30 * DAY, 13 * DAY + 3600, "expires in 13 days, on 20"),
        (DAY, 30 * DAY, "is valid only from 20"),
    ] {
        let bad = authority(start, end);
        let (code, said) = run(keys.map(|(file, _)| (file, bad.as_str())), false);
        assert_eq!((code, said.len()), (Some(0), 3), "{said:#?}");
        for (file, key) in keys {
            let right = |line: &String| {
                line.starts_with("warning: portcullis.toml:")
                    && line.contains(key)
                    && line.contains(&format!("{file}` {words}"))
            };
            assert!(said.iter().any(right), "{file} {words}: {said:#?}");
        }
        // One of several is named by its place.
        let (_, said) = run(keys.map(|(file, _)| (file, good.as_str())), true);
        assert!(said.is_empty(), "{said:#?}");
        let bundle = [good.as_str(), bad.as_str()].concat();
        let (code, said) = run(keys.map(|(file, _)| (file, bundle.as_str())), true);
        assert_eq!((code, said.len()), (Some(2), 3), "{said:#?}");
        assert!(
            said.iter()
                .all(|line| line.contains("the certificate authority 2 of `")),
            "{said:#?}"
        );
    }
    let many = authority(-30 * DAY, -DAY).repeat(8);
    let (_, said) = run(
        [
            ("outgoing.pem", &many),
            ("devices.pem", &good),
            ("origins.pem", &good),
        ],
        false,
    );
    assert!(
        said.len() == 6 && said[5].contains("3 more certificate authorities of `outgoing.pem`"),
        "{said:#?}"
    );
}

#[tokio::test]
async fn start_and_reload_report_certificate_authorities() {
    let idp = Idp::start().await;
    let mut config = Config::new(&idp.issuer, &with_authorities());
    config.tls = true;
    let good = Certificate::valid(&["Example CA"], -DAY, 365 * DAY).pem;
    let ending = Certificate::valid(&["Example CA"], -30 * DAY, 3 * DAY + 3600).pem;
    config.files = vec![
        ("outgoing.pem", good.clone()),
        ("devices.pem", good),
        ("origins.pem", ending.clone()),
    ];
    let mut proxy = Portcullis::start(at(config, "http://127.0.0.1:8")).await;
    proxy
        .logged(
            0,
            &[
                "WARN",
                "origin_settings.ca",
                "`origins.pem` expires in 3 days",
            ],
        )
        .await;
    assert!(!proxy.log().contains("`devices.pem` expires"));
    let after = proxy.log().len();
    std::fs::write(proxy.path("devices.pem"), ending).unwrap();
    proxy.config.rest += "\n# changed\n";
    proxy.write_config();
    proxy
        .logged(
            after,
            &[
                "WARN",
                "certificates[0].ca",
                "`devices.pem` expires in 3 days",
            ],
        )
        .await;
}

#[tokio::test]
async fn start_reload_and_renewal_report_what_check_reports() {
    let idp = Idp::start().await;
    let mut config = Config::new(&idp.issuer, APPLICATIONS);
    config.tls = true;
    let mut proxy = Portcullis::start(at(config, "http://127.0.0.1:8")).await;
    let gauge = async |proxy: &Portcullis| {
        let metrics = proxy.metrics().await;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("portcullis_certificate_not_after_timestamp_seconds{"));
        line.unwrap_or_else(|| panic!("{metrics}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
    };
    assert!(gauge(&proxy).await > now());

    // A renewal with other names, which expires soon.
    let renewed = Certificate::valid(&["wiki.test"], -DAY, 5 * DAY);
    let after = proxy.log().len();
    std::fs::write(proxy.path("key.pem"), &renewed.key_pem).unwrap();
    std::fs::write(proxy.path("cert.pem"), &renewed.pem).unwrap();
    let patience = Duration::from_secs(25);
    proxy
        .logged_within(patience, after, &["WARN", "expires in 4 days"])
        .await;
    proxy
        .logged_within(patience, after, &["WARN", "is not valid for `access.test`"])
        .await;
    let end = gauge(&proxy).await;
    assert!((end - now() - 5.0 * 86_400.0).abs() < 120.0, "{end}");

    // A reload reports the certificate, and applies the rest whatever it finds: the file may close
    // an application.
    let expired = Certificate::valid(&HOSTS, -30 * DAY, -DAY);
    let after = proxy.log().len();
    std::fs::write(proxy.path("cert.pem"), &expired.pem).unwrap();
    proxy.config.rest += "\n# changed\n";
    proxy.write_config();
    proxy
        .logged(
            after,
            &["ERROR", "listen[0].tls.certificate", "does not match"],
        )
        .await;
    proxy
        .logged(after, &["INFO", "the configuration was reloaded"])
        .await;
    let connection =
        Connection::try_tls(proxy.address, "wiki.test", &renewed.client("http/1.1")).await;
    assert!(connection.is_some(), "cannot reload the certificate");

    // An expired certificate is served, because the way to a new one may lead through this proxy.
    std::fs::write(proxy.path("key.pem"), &expired.key_pem).unwrap();
    proxy.stop().await;
    let after = proxy.log().len();
    proxy.run().await;
    let line = proxy
        .logged(after, &["ERROR", "listen[0].tls.certificate", "expired on"])
        .await;
    assert!(line.contains("portcullis.toml:"), "{line}");
}
