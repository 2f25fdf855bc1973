//! The life of the process: listeners, signals, limits and the files that remain.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::certs::Certificate;
use crate::support::portcullis::{Config, Process, free_address};
use crate::support::raw::{self, Connection};
use crate::support::{APPLICATIONS, World, at, eventually};

/// Runs the proxy until it ends, in a folder of its own.
fn run_to_the_end(listen: SocketAddr, metrics: SocketAddr, rest: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let config = at(
        Config::new("http://127.0.0.1:9", APPLICATIONS),
        "http://127.0.0.1:8",
    );
    fs::write(
        folder.path().join("portcullis.toml"),
        config.text(listen, metrics) + rest,
    )
    .unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "-c", "portcullis.toml"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while process.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the process lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let read = |stream: Option<&mut dyn std::io::Read>| {
        let mut all = Vec::new();
        stream.unwrap().read_to_end(&mut all).unwrap();
        all
    };
    let stdout = read(
        process
            .0
            .stdout
            .as_mut()
            .map(|s| s as &mut dyn std::io::Read),
    );
    let stderr = read(
        process
            .0
            .stderr
            .as_mut()
            .map(|s| s as &mut dyn std::io::Read),
    );
    Output {
        status: process.0.wait().unwrap(),
        stdout,
        stderr,
    }
}

fn assert_start_fails(output: &Output, address: SocketAddr, words: &[&str]) {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    let log = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}{log}");
    let lines: Vec<_> = errors
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(lines.len(), 1, "one error: {errors}");
    for word in words.iter().copied().chain([address.to_string().as_str()]) {
        assert!(lines[0].contains(word), "`{word}` is not in: {errors}");
    }
    assert!(
        !log.contains("\"serving\"") && !errors.contains("panicked"),
        "{errors}{log}"
    );
}

#[test]
fn listener_that_cannot_be_bound_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let output = run_to_the_end(taken.1, free_address(), "");
    assert_start_fails(&output, taken.1, &["another process uses it", "ss -ltnp"]);
    let output = run_to_the_end(free_address(), taken.1, "");
    assert_start_fails(&output, taken.1, &["another process uses it"]);
    // Reserved for documentation (RFC 5737), so no interface has it.
    let foreign = SocketAddr::from(([192, 0, 2, 1], free_address().port()));
    let output = run_to_the_end(foreign, free_address(), "");
    assert_start_fails(
        &output,
        foreign,
        &[
            "no interface of this machine has this IP address",
            "0.0.0.0",
        ],
    );
}

/// The end of a start with limited resources.
enum Started {
    Serves,
    Ended { status: ExitStatus, errors: String },
}

/// Starts the proxy under a limit of its address space, until it has ended or answers a request.
async fn start_limited(kilobytes: u64, environment: &[(&str, String)]) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let (listen, metrics) = (free_address(), free_address());
    let config = at(
        Config::new("http://127.0.0.1:9", APPLICATIONS),
        "http://127.0.0.1:8",
    );
    // The number of threads must not depend on the machine.
    let text = config.text(listen, metrics) + "[server]\nthreads = 2\n";
    fs::write(folder.path().join("portcullis.toml"), text).unwrap();
    // An unread pipe could block the process.
    let errors = fs::File::create(folder.path().join("errors")).unwrap();
    let child = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -v {kilobytes} && exec \"$0\" run -c portcullis.toml"),
        ])
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder.path())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let read = || String::from_utf8(fs::read(folder.path().join("errors")).unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            let errors = read();
            return Started::Ended { status, errors };
        }
        let readyz = raw::request("GET", "localhost", "/readyz", &[]);
        let open = raw::request("GET", "open.localhost", "/", &[]);
        // It may run out of memory at any moment, also after it was ready.
        let answers = async {
            raw::try_exchange(metrics, readyz).await.is_some()
                && raw::try_exchange(listen, open).await.is_some()
        };
        if tokio::time::timeout(Duration::from_secs(20), answers).await == Ok(true) {
            return Started::Serves;
        }
        assert!(
            Instant::now() < deadline,
            "with {kilobytes} KiB it neither serves nor ends: {}",
            read()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn start_without_enough_memory_ends_or_serves() {
    let mut ended = 0;
    for kilobytes in [60_000, 80_000, 120_000, 200_000, 300_000, 400_000] {
        // Once it serves, a panic that runs out of memory while it writes a backtrace never ends.
        let environment = [("RUST_BACKTRACE", "0".to_owned())];
        if let Started::Ended { status, errors } = start_limited(kilobytes, &environment).await {
            assert!(!status.success(), "{kilobytes} KiB: {status}: {errors}");
            ended += 1;
        }
    }
    assert!(ended > 0, "no limit was low enough for the test");
}

#[tokio::test]
async fn thread_that_cannot_be_created_ends_the_start() {
    // Each thread takes a known part of the address space, so the limit is a number of threads.
    const STACK: u64 = 2 << 30;
    let environment = [
        ("RUST_BACKTRACE", "1".to_owned()),
        ("RUST_MIN_STACK", STACK.to_string()),
        // The allocators reserve little for a thread.
        ("MALLOC_ARENA_MAX", "1".to_owned()),
    ];
    let mut panics = 0;
    for threads in 0..40 {
        // Everything else together needs less than one stack.
        let kilobytes = (threads * STACK + STACK * 3 / 4) >> 10;
        match start_limited(kilobytes, &environment).await {
            Started::Serves => {
                assert!(panics > 1, "{panics} panics with up to {threads} threads");
                return;
            }
            Started::Ended { status, errors } => {
                let of = format!("{threads} threads: {status}: {errors}");
                assert_eq!(status.code(), Some(2), "{of}");
                // A second thread may report its own error before the process ends.
                let is_plain = |line: &str| line.starts_with("error: ");
                assert!(errors.lines().next().is_some_and(is_plain), "{of}");
                assert!(errors.lines().all(is_plain), "{of}");
                panics += usize::from(errors.contains("` panicked: "));
            }
        }
    }
    panic!("it never serves");
}

#[tokio::test]
async fn sigterm_fails_readyz_while_connections_are_accepted() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"3s\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let request = "GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n";
    let mut kept = world.proxy.connect("open.localhost").await;
    kept.send(request).await;
    let answer = kept.response("GET").await.unwrap();
    assert!(
        !answer.headers.lists("connection", "close"),
        "{:?}",
        answer.headers
    );
    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);

    world.proxy.signal("TERM");
    while world.proxy.readyz().await != Some(503) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kept.send(request).await;
    let answer = kept
        .response("GET")
        .await
        .expect("a kept connection is still served");
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers.lists("connection", "close"),
        "{:?}",
        answer.headers
    );
    assert!(kept.is_closed().await);
    let mut fresh = world.proxy.connect("open.localhost").await;
    fresh.send(request).await;
    let answer = fresh
        .response("GET")
        .await
        .expect("a new connection is still served");
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers.lists("connection", "close"),
        "{:?}",
        answer.headers
    );
    // GOAWAY: the connection ends although the client keeps it.
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("no GOAWAY")
        .unwrap()
        .unwrap();
    drop(client);
    assert!(world.proxy.ended(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn second_sigterm_ends_the_lame_duck_time() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"1h\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    world.proxy.signal("TERM");
    world.proxy.logged(0, &["/readyz fails from now on"]).await;
    world.proxy.signal("TERM");
    assert!(world.proxy.ended(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn sigquit_without_a_successor_changes_nothing() {
    let server = "[server]\nupgrade_socket = \"upgrade.sock\"\npid_file = \"pid\"";
    let mut world = World::with(&format!("{server}\n{APPLICATIONS}"), |_| ()).await;
    world.proxy.signal("QUIT");
    world
        .proxy
        .logged_within(Duration::from_secs(30), 0, &["no successor waits"])
        .await;
    assert_eq!(world.proxy.readyz().await, Some(200));
    let answer = world
        .raw(raw::request("GET", "open.localhost", "/", &[]))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    // The next one finds a successor.
    world.proxy.upgrade().await;
    let answer = world
        .raw(raw::request("GET", "open.localhost", "/", &[]))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn failed_upgrade_leaves_the_pid_file_alone() {
    let server = "[server]\nupgrade_socket = \"upgrade.sock\"\npid_file = \"pid\"";
    let world = World::with(&format!("{server}\n{APPLICATIONS}"), |_| ()).await;
    let pid = fs::read_to_string(world.proxy.path("pid")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "-c", "portcullis.toml", "--upgrade"])
        .current_dir(world.proxy.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("SIGQUIT")
            && errors.contains("upgrade.sock")
            && !errors.contains("panicked"),
        "{errors}"
    );
    assert_eq!(fs::read_to_string(world.proxy.path("pid")).unwrap(), pid);
    let answer = world
        .raw(raw::request("GET", "open.localhost", "/", &[]))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

/// Starts a successor, which fails, and expects that the running process serves on.
async fn assert_outlives_its_successor(world: &mut World, words: &[&str]) {
    let before = world.proxy.log().len();
    let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "-c", "portcullis.toml", "--upgrade"])
        .current_dir(world.proxy.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut successor = Process(child);
    world.proxy.signal("QUIT");
    eventually("the successor lives on", async || {
        successor.0.try_wait().unwrap().is_some()
    })
    .await;
    let mut errors = String::new();
    std::io::Read::read_to_string(successor.0.stderr.as_mut().unwrap(), &mut errors).unwrap();
    assert_eq!(successor.0.wait().unwrap().code(), Some(2), "{errors}");
    assert!(
        words.iter().all(|word| errors.contains(word)) && !errors.contains("panicked"),
        "{errors}"
    );
    world
        .proxy
        .logged_within(
            Duration::from_secs(30),
            before,
            &["this process keeps serving"],
        )
        .await;
    assert_serves(world).await;
}

/// A process that drains fails `/readyz` and ends its connections.
async fn assert_serves(world: &World) {
    assert_eq!(world.proxy.readyz().await, Some(200));
    let mut connection = world.proxy.connect("open.test").await;
    connection
        .send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n")
        .await;
    let answer = connection.response("GET").await.expect("a response");
    assert_eq!(answer.status, 200);
    assert!(
        !answer.headers.lists("connection", "close"),
        "{:?}",
        answer.headers
    );
}

#[tokio::test]
async fn failed_upgrade_leaves_the_running_process_serving() {
    let server = "[server]\nupgrade_socket = \"upgrade.sock\"";
    let mut world = World::with(&format!("{server}\n{APPLICATIONS}"), |config| {
        config.tls = true
    })
    .await;
    let key = fs::read(world.proxy.path("key.pem")).unwrap();
    fs::write(
        world.proxy.path("key.pem"),
        Certificate::new(&["open.test"]).key_pem,
    )
    .unwrap();
    assert_outlives_its_successor(&mut world, &["key.pem"]).await;
    fs::write(world.proxy.path("key.pem"), key).unwrap();

    world.proxy.config.rest = world
        .proxy
        .config
        .rest
        .replace(server, &format!("{server}\npid_file = \"missing/pid\""));
    world.proxy.write_config();
    assert_outlives_its_successor(&mut world, &["missing/pid"]).await;
    world.proxy.config.rest = world
        .proxy
        .config
        .rest
        .replace("\npid_file = \"missing/pid\"", "");

    // A listener that only the successor has.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = format!("\n[[listen]]\naddress = \"{address}\"\nredirect_to_https = true\n");
    world.proxy.config.rest.push_str(&more);
    world.proxy.write_config();
    assert_outlives_its_successor(
        &mut world,
        &[&address.to_string(), "another process uses it"],
    )
    .await;

    // A drain closes the listeners after five seconds. Of the earlier attempts, the later ones
    // would have shown it.
    for _ in 0..7 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_serves(&world).await;
    }

    // With all of that mended, the next one succeeds.
    world.proxy.config.rest = world.proxy.config.rest.replace(&more, "");
    world.proxy.write_config();
    drop(taken);
    world.proxy.upgrade().await;
    assert_eq!(world.proxy.readyz().await, Some(200));
}

#[tokio::test]
async fn upgrade_socket_that_cannot_be_made_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let config = at(
        Config::new("http://127.0.0.1:9", APPLICATIONS),
        "http://127.0.0.1:8",
    );
    let text = config.text(free_address(), free_address())
        + "\n[server]\nupgrade_socket = \"missing/upgrade.sock\"\n";
    fs::write(folder.path().join("portcullis.toml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "-c", "portcullis.toml", "--upgrade"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("missing/upgrade.sock") && !errors.contains("panicked"),
        "{errors}"
    );
}

#[tokio::test]
async fn open_files_are_raised_and_some_kept_for_the_metrics() {
    let (soft, hard) = (100, 160);
    let world = World::with(APPLICATIONS, |config| {
        config.open_files = Some((soft, hard))
    })
    .await;
    let mut idle = Vec::new();
    let mut served = 0;
    for _ in 0..hard + 40 {
        let mut connection = Connection::plain(world.proxy.address).await;
        connection
            .send("GET / HTTP/1.1\r\nHost: unknown.localhost\r\n\r\n")
            .await;
        if connection.response("GET").await.is_some() {
            served += 1;
        }
        idle.push(connection);
    }
    // More than the soft limit allows, which the rest of the process uses too.
    assert!(served > 70, "{served} connections of {hard} open files");
    assert!(served < hard, "{served}");
    for _ in 0..10 {
        assert_eq!(world.proxy.readyz().await, Some(200));
    }
    let metrics = world.proxy.metrics().await;
    assert!(metrics.contains("portcullis_"), "{metrics}");
    let log = world.proxy.log();
    assert_eq!(
        log.lines()
            .filter(|line| line.contains("closing new connections"))
            .count(),
        1,
        "{log}"
    );
    drop(idle);
    // They are free again.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = world
            .raw(raw::request("GET", "open.localhost", "/", &[]))
            .await;
        if answer.is_some_and(|answer| answer.status == 200) {
            return;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn request_without_a_free_descriptor_gets_503() {
    let world = World::with(APPLICATIONS, |config| config.open_files = Some((100, 160))).await;
    let (mut first, mut second) = (
        world.proxy.connect("open.localhost").await,
        world.proxy.connect("open.localhost").await,
    );
    let mut idle = Vec::new();
    // An error closes the client's connection, and so frees its descriptor.
    for (kept, line, kind) in [
        (&mut first, "Accept: text/html", "text/html"),
        (&mut second, "Sec-Fetch-Mode: cors", "application/json"),
    ] {
        loop {
            let mut connection = Connection::plain(world.proxy.address).await;
            connection
                .send("GET / HTTP/1.1\r\nHost: unknown.localhost\r\n\r\n")
                .await;
            let is_served = connection.response("GET").await.is_some();
            idle.push(connection);
            if !is_served {
                break;
            }
            assert!(idle.len() < 400, "no limit of open files");
        }
        kept.send(format!(
            "GET /page HTTP/1.1\r\nHost: open.localhost\r\n{line}\r\n\r\n"
        ))
        .await;
        let answer = kept.response("GET").await.expect("a response");
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.headers.one("retry-after"), Some("5"));
        assert!(
            answer
                .headers
                .one("content-type")
                .is_some_and(|found| found.starts_with(kind)),
            "{:?}",
            answer.headers
        );
        assert!(answer.text().contains("overloaded"), "{}", answer.text());
        let again = answer.text().contains("href=\"/page\"");
        assert_eq!(
            again,
            kind == "text/html",
            "a way to try again: {}",
            answer.text()
        );
    }
    let metrics = world.proxy.metrics().await;
    let line = "portcullis_upstream_errors_total{kind=\"no_descriptor\"} 2";
    assert!(metrics.lines().any(|one| one == line), "{metrics}");
}

/// The HTTP/2 windows that a fresh connection to that address has: of its streams, and of itself.
async fn windows(address: SocketAddr) -> (TcpStream, u32, u32) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await.unwrap();
    // SETTINGS, and PINGs: the window of the connection comes with the first answer, so before the
    // second.
    let ping = b"\0\0\x08\x06\0\0\0\0\0portcull";
    stream
        .write_all(
            &[
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(),
                ping,
            ]
            .concat(),
        )
        .await
        .unwrap();
    let (mut of_a_stream, mut of_the_connection, mut answers) = (65_535, 65_535, 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut frame = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut frame).await.unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        match head[3] {
            4 => frame
                .chunks(6)
                .filter(|s| s[..2] == [0, 4])
                .for_each(|s| of_a_stream = number(&s[2..])),
            6 if answers > 0 => return (stream, of_a_stream, of_the_connection),
            6 => {
                answers += 1;
                stream.write_all(ping).await.unwrap();
            }
            8 => of_the_connection += number(&frame),
            _ => {}
        }
    }
}

#[tokio::test]
async fn http2_windows_are_wide_and_bounded() {
    let world = World::start().await;
    let (_stream, of_a_stream, of_the_connection) = windows(world.proxy.address).await;
    assert_eq!((of_a_stream, of_the_connection), (6 << 20, 8 << 20));
}

#[tokio::test]
async fn http2_windows_of_all_connections_are_bounded_together() {
    let world = World::start().await;
    let (mut open, mut total, mut least) = (Vec::new(), 0, u32::MAX);
    for _ in 0..400 {
        let (stream, _, window) = windows(world.proxy.address).await;
        total += u64::from(window);
        least = least.min(window);
        open.push(stream);
    }
    assert!(total <= (512 << 20) + 400 * 65_535, "{total} bytes");
    assert!((65_535..128 << 10).contains(&least), "{least}");
    drop(open);
    // Dropped windows return to the budget.
    let deadline = Instant::now() + Duration::from_secs(20);
    while windows(world.proxy.address).await.2 < 8 << 20 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
