use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::model::{Email, IdpId, RequestId, UserId};
use crate::observe::audit::{Event, Kind, Outcome};

/// The log of a test, in memory.
#[derive(Clone, Default)]
struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl Write for MemoryLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, filter: &str, what: impl FnOnce()) -> String {
    let log = MemoryLog::default();
    let queue = Queue::start(log.clone()).unwrap();
    let logging = Logging {
        queue: queue.clone(),
    };
    tracing::subscriber::with_default(subscriber(format, EnvFilter::new(filter), queue), what);
    logging.flush(Duration::from_secs(10));
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

const EVIL: &[u8] =
    b"Mozilla\r\n{\"level\":\"ERROR\",\"event\":\"login\",\"outcome\":\"allowed\"}\n\x1b[2J\x1b[31m\xff\"}";

#[test]
fn t12_user_agent_cannot_forge_a_log_line() {
    let mut long = EVIL.to_vec();
    long.resize(65_536, b'a');
    for agent in [EVIL, &long] {
        let refuse = || {
            Event {
                reason: Some("policy_denied"),
                user_agent: Some(agent),
                path: Some("/a\nb\x1b[0m?code=secret"),
                host: Some("evil\"}\n{\"level\":\"ERROR"),
                ..Event::new(Kind::Access, Outcome::Refused, RequestId::random())
            }
            .emit();
        };
        let json = logged(Format::Json, "info", refuse);
        assert_eq!(json.lines().count(), 1, "{json}");
        assert!(
            json.ends_with('\n') && json.len() < 2_000 && !json.contains(['\x1b', '\r']),
            "{json}"
        );
        let line: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&line["level"], &line["event"], &line["outcome"]),
            (&"INFO".into(), &"access".into(), &"refused".into())
        );
        assert_eq!(
            line["path"], r"/a\u{a}b\u{1b}[0m",
            "and the query is not there"
        );
        assert!(
            line["user_agent"]
                .as_str()
                .unwrap()
                .starts_with(r#"Mozilla\u{d}\u{a}{"level":"ERROR","#)
        );

        let text = logged(Format::Text, "info", refuse);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains(['\x1b', '\r']), "{text}");
    }
}

#[test]
fn event_is_flat_and_omits_unknown_fields() {
    let (email, user, idp) = (
        Email::parse("alice@example.com").unwrap(),
        UserId("0190-a".into()),
        IdpId("okta".into()),
    );
    let request_id = RequestId::random();
    let json = logged(Format::Json, "info", || {
        Event {
            application: Some("wiki"),
            aud: Some("00ff"),
            email: Some(&email),
            user: Some(&user),
            idp: Some(&idp),
            policy: Some("engineering"),
            client: Some("2001:db8::1".parse().unwrap()),
            method: Some("GET"),
            host: Some("wiki.example.com"),
            path: Some("/page"),
            user_agent: Some(b"curl/8"),
            ..Event::new(Kind::Login, Outcome::Allowed, request_id)
        }
        .emit();
        Event::new(Kind::Logout, Outcome::Unavailable, request_id).emit();
    });
    let lines: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (name, value) in [
        ("target", "portcullis::audit"),
        ("event", "login"),
        ("outcome", "allowed"),
        ("request_id", &request_id.to_string()),
        ("application", "wiki"),
        ("aud", "00ff"),
        ("email", "alice@example.com"),
        ("user", "0190-a"),
        ("idp", "okta"),
        ("policy", "engineering"),
        ("client", "2001:db8::1"),
        ("method", "GET"),
        ("host", "wiki.example.com"),
        ("path", "/page"),
        ("user_agent", "curl/8"),
    ] {
        assert_eq!(lines[0][name], value, "{name}");
    }
    assert_eq!(lines[0].get("reason"), None);
    let names: Vec<_> = lines[1]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        names,
        [
            "event",
            "level",
            "outcome",
            "request_id",
            "target",
            "timestamp"
        ]
    );
}

#[test]
fn short_format_writes_one_line_per_event() {
    let email = Email::parse("bob@demo.example").unwrap();
    let id = RequestId::random();
    let text = logged(Format::Short, "info,pingora=warn", || {
        let refused = Event {
            reason: Some("no_policy_applied"),
            application: Some("Vault"),
            email: Some(&email),
            path: Some("/x"),
            user_agent: Some(EVIL),
            ..Event::new(Kind::Login, Outcome::Refused, id)
        };
        refused.emit();
        Event {
            email: Some(&email),
            ..Event::new(Kind::Logout, Outcome::Allowed, id)
        }
        .emit();
        Event {
            reason: Some("email_refused"),
            ..Event::new(Kind::Login, Outcome::Refused, id)
        }
        .emit();
        tracing::warn!(request_id = %id, error = "a long chain", "a login failed");
        tracing::warn!("the disk is full");
        tracing::error!(request_id = %id, "the store did not respond");
        tracing::info!("a detail");
        tracing::info!(target: "portcullis::app", listeners = ?["127.0.0.1:80"], "serving");
    });
    let expected = format!(
        "  bob@demo.example -> Vault: login refused, no_policy_applied (request {id})\n  \
         bob@demo.example: logout allowed\n  anonymous: login refused, email_refused (request {id})\n  \
         warning: the disk is full\n  error: the store did not respond\n  serving\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn json_fields_are_written_as_lists_and_objects() {
    let line = logged(Format::Json, "info", || {
        tracing::info!(
            groups = r#"["R&D","a\u202eb"]"#, claims = r#"{"team":{"id":1}}"#, listeners = ?["127.0.0.1:80"],
            amr = "[not JSON", other = r#"["text"]"#, number = 3_u64, truth = true, debug = ?Some("x"), "said \"so\"\n"
        );
    });
    assert_eq!(line.lines().count(), 1, "{line}");
    let event: Value = serde_json::from_str(&line).unwrap();
    for (name, value) in [
        ("groups", serde_json::json!(["R&D", "a\u{202e}b"])),
        ("claims", serde_json::json!({"team": {"id": 1}})),
        ("listeners", serde_json::json!(["127.0.0.1:80"])),
        ("amr", "[not JSON".into()),
        ("other", r#"["text"]"#.into()),
        ("number", 3.into()),
        ("truth", true.into()),
        ("debug", r#"Some("x")"#.into()),
        ("message", "said \"so\"\n".into()),
        ("level", "INFO".into()),
        ("target", "portcullis::observe::logging::tests".into()),
    ] {
        assert_eq!(event[name], value, "{name}: {line}");
    }
    assert!(!line.contains('\u{202e}'), "it stays escaped");
    assert!(
        event["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok(),
        "{line}"
    );
}

#[test]
fn default_filter_keeps_our_events_and_pingora_warnings() {
    let json = logged(Format::Json, DEFAULT_FILTER, || {
        tracing::info!(target: "pingora_core::server", "chatter");
        tracing::warn!(target: "pingora_proxy", "trouble");
        tracing::debug!(target: "portcullis", "detail");
        tracing::info!(target: "portcullis", "news");
    });
    let said: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["message"].clone())
        .collect();
    assert_eq!(said, ["trouble", "news"]);
}

#[test]
fn records_of_other_crates_are_cleaned_up() {
    let record = |target: &str, text: &str| {
        let mut record = Record::builder();
        record
            .level(Level::Error)
            .target(target)
            .module_path(Some("somewhere"));
        record.file(Some("/builder/registry/x.rs")).line(Some(7));
        Records::default().log(&record.args(format_args!("{text}")).build());
    };
    let say_all = || {
        record(
            "pingora_core::services::listening",
            "Downstream handshake error from 192.0.2.1:5: eof",
        );
        record(
            "pingora_core::services::listening",
            "Downstream handshake timeout",
        );
        record("pingora_core::apps", "H2 handshake error eof");
        record(
            "pingora_core::services::listening",
            "Accept() failed: too many open files",
        );
        record("pingora_proxy", "the handshake of an origin");
    };
    let json = logged(Format::Json, "info", say_all);
    let lines: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let levels: Vec<_> = lines
        .iter()
        .map(|line| line["level"].as_str().unwrap())
        .collect();
    assert_eq!(levels, ["INFO", "INFO", "INFO", "ERROR", "ERROR"]);
    assert!(!json.contains("/builder"), "{json}");
    assert_eq!(
        logged(Format::Json, DEFAULT_FILTER, say_all)
            .lines()
            .count(),
        2,
        "the rest is not asked for"
    );
    assert!(!logged(Format::Text, "info", say_all).contains("/builder"));
}

/// A reader that does not read.
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (open, changed) = &*self.0;
        drop(
            changed
                .wait_while(open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stuck_log_reader_blocks_nothing() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let queue = Queue::start(Stuck(Arc::clone(&gate))).unwrap();
    let logging = Logging {
        queue: queue.clone(),
    };
    let dropped = || {
        let text = crate::observe::metrics::text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("portcullis_log_lines_dropped_total "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = dropped();
    let started = Instant::now();
    tracing::subscriber::with_default(
        subscriber(Format::Json, EnvFilter::new("info"), queue),
        || {
            for _ in 0..3 * QUEUED {
                tracing::info!(filler = %"x".repeat(100), "line");
            }
        },
    );
    logging.flush(Duration::from_millis(50));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(
        dropped() - before >= QUEUED as u64,
        "what was lost is counted"
    );
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

/// The only test in this process that installs a logger; the others use their own subscriber.
#[test]
fn init_installs_the_logger_only_once() {
    let logging = init(Format::Json).unwrap();
    assert!(tracing::event_enabled!(target: "portcullis::audit", tracing::Level::INFO));
    assert!(!tracing::event_enabled!(target: "pingora_core", tracing::Level::INFO));
    assert!(tracing_log::log::log_enabled!(target: "pingora_core", tracing_log::log::Level::Warn));
    assert!(!tracing_log::log::log_enabled!(target: "pingora_core", tracing_log::log::Level::Info));
    logging.flush(Duration::from_secs(10));
    assert!(matches!(
        init(Format::Json),
        Err(LoggingError::Installed(_))
    ));
}
