//! Limits on the resources that HTTP clients can take. Time limits are tested in memory,
//! in `pfs-http`.

use std::{net::SocketAddr, path::Path};

use harness::{Daemon, HttpConnection, Pfs, Running, eventually, noise, own};

use super::refusals::{logged, refusals};

const S: &str = "/streamfs/s";

#[test]
fn a_header_of_10_mb_is_431_and_costs_no_memory() {
    let daemon = Daemon::with_http();
    let before = daemon.memory();
    for _ in 0..5 {
        let mut connection = daemon.http();
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-large: ");
        for _ in 0..160 {
            connection.send(&[b'x'; 64 * 1024]);
        }
        connection.send(b"\r\n\r\n");
        connection.response().has(431);
        connection.until_hung_up();
    }
    assert!(daemon.memory() < before + (8 * 1024 * 1024), "{} from {before}", daemon.memory());
}

#[test]
fn a_client_that_is_refused_while_sending_can_read_why_and_is_not_cut_off() {
    let daemon = Daemon::with_http();
    let mut connection = daemon.http();
    connection
        .send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-large: ")
        .send(&[b'x'; 256 * 1024]);
    connection.response().has(431);
    // If the daemon had just closed the connection, the first of these writes would reset it.
    for _ in 0..100 {
        assert!(connection.offer(&[b'x'; 1024]), "the connection was cut off");
    }
}

#[test]
fn headers_may_be_as_large_and_as_many_as_the_limits_allow() {
    let daemon = Daemon::with_http_config("[limits]\nmax_header_size = \"8KB\"\n");
    for (len, status) in [(7_000, 200), (9_000, 431), (60_000, 431)] {
        let answer =
            daemon.ask("GET", "/healthz", [("x-large", &*"x".repeat(len))], b"").has(status);
        if status == 431 {
            assert!(answer.refuses("headers_too_large").contains("8192"));
        }
        let header = format!("x-large: {}", "x".repeat(len));
        let args =
            ["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header];
        assert_eq!(daemon.curl(args, "/healthz").run().exits(0).text(), status.to_string());
    }
    let mut connection = daemon.http();
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n");
    for i in 0..1000 {
        connection.send(format!("x-{i}: y\r\n").as_bytes());
    }
    connection.send(b"\r\n");
    connection.response().has(431);
}

#[test]
fn one_connection_too_many_is_503_and_the_others_go_on() {
    let daemon = Daemon::with_http_config(
        "[limits]\nmax_connections = 4\nmax_connections_per_address = 4\n",
    );
    let mut held = Vec::new();
    // The daemon may still count connections of the start-up check, so it may refuse some of these.
    eventually("four are held", || {
        let mut connection = daemon.http();
        connection.request("GET", "/streamfs/", &[], None);
        if connection.response().status == 200 {
            held.push(connection);
        }
        held.len() == 4
    });
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let refused = daemon.curl([version, "-w", "%{http_code}"], "/streamfs/").run().exits(0);
        assert!(refused.text().ends_with("503"), "{}", refused.text());
        assert!(refused.text().contains("limits.max_connections"), "{}", refused.text());
    }
    // A health check must not mistake a full daemon for a dead one.
    daemon.get("/healthz").has(200);
    let mut refused = daemon.http();
    refused.request("GET", "/streamfs/", &[], None);
    let answer = refused.response().has(503);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("retry-after").is_some());
    answer.refuses("too_many_connections");
    assert!(refused.until_hung_up().is_empty());
    // The Unix socket shares the limit.
    daemon.pfs(["ls", "/"]).run().exits(1).says("connections");
    for connection in &mut held {
        connection.request("GET", "/healthz", &[], None);
        connection.response().has(200);
    }
    held.clear();
    eventually("there is room again", || daemon.get("/streamfs/").status == 200);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let daemon = Daemon::with_http_config(
        "[limits]\nmax_connections = 100\nmax_connections_per_address = 3\n",
    );
    let mut held = Vec::new();
    eventually("three are held", || {
        let mut connection = daemon.http();
        connection.request("GET", "/streamfs/", &[], None);
        if connection.response().status == 200 {
            held.push(connection);
        }
        held.len() == 3
    });
    daemon.get("/streamfs/").has(429).refuses("too_many_connections");
    let elsewhere = daemon.curl(["-f", "--interface", "127.0.0.9"], "/streamfs/").run();
    elsewhere.exits(0);
    daemon.pfs(["ls", "/"]).run().exits(0);
    held.clear();
    eventually("there is room again", || daemon.get("/streamfs/").status == 200);
}

#[test]
fn a_flood_of_connections_beyond_the_limit_leaves_the_daemon_alive() {
    let daemon = Daemon::with_http_config("[limits]\nmax_connections_per_address = 2\n");
    let flood: Vec<HttpConnection> = (0..300).map(|_| daemon.http()).collect();
    daemon.pfs(["ls", "/"]).run().exits(0);
    drop(flood);
    eventually("there is room again", || {
        let mut connection = daemon.http();
        connection.request("GET", "/streamfs/", &[], None);
        connection.head().is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_token_that_has_exhausted_its_quota_creates_no_more_by_any_protocol_and_another_one_does() {
    const ONE: &str = "one-one-one-one-one";
    const OTHER: &str = "other-other-other-other";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{ONE}\n{OTHER}\n")).unwrap();
    let daemon = Daemon::with_http_config(&format!(
        "[auth]\ntoken_file = {file:?}\n[limits]\nmax_streams_per_token = 2\n"
    ));
    let ask = |token: &str, method: &str, path: &str| {
        daemon.ask(method, path, [("authorization", &*format!("Bearer {token}"))], b"x")
    };
    let create = |token: &str| {
        let own = folder.path().join(token);
        std::fs::write(&own, token).unwrap();
        let args = ["--url", &daemon.url(""), "create", "/streamfs/frames", "--token-file"];
        daemon.pfs(args).arg(own).run()
    };
    ask(ONE, "PUT", S).has(201);
    ask(ONE, "PUT", "/v1/stream/durable").has(201);
    let refused = "for this token: 2 of the 2 streams that the quota allows are taken; remove streams of this token with \
                   pfs rm, or raise limits.max_streams_per_token";
    for (method, path) in [
        ("PUT", "/streamfs/more"),
        ("POST", "/streamfs/more"),
        ("PUT", "/v1/stream/more"),
        ("POST", "/api/v1/files?path=/streamfs/more"),
        ("PUT", "/api/v1/files?path=/streamfs/more"),
    ] {
        let answer = ask(ONE, method, path).has(429);
        assert!(answer.text().contains(refused), "{method} {path}: {}", answer.text());
    }
    assert!(
        ask(ONE, "PUT", "/streamfs/more")
            .refuses("limit")
            .contains("cannot create /streamfs/more ")
    );
    create(ONE).exits(1).says(refused);
    // Existing streams still accept appends and replacement.
    ask(ONE, "POST", S).has(200);
    ask(ONE, "PUT", &format!("{S}?replace")).has(201);

    ask(OTHER, "PUT", "/streamfs/of-the-other").has(201);
    create(OTHER).exits(0);
    daemon.create("/streamfs/of-the-socket");
    ask(ONE, "DELETE", "/v1/stream/durable").has(204);
    ask(ONE, "PUT", "/streamfs/more").has(201);
    assert_eq!(ask(OTHER, "PUT", "/streamfs/another").status, 429);
    for token in [ONE, OTHER] {
        assert!(!daemon.log().contains(token), "a token in the log");
    }
}

#[test]
fn quotas_that_do_not_apply_over_http_are_logged_at_the_start() {
    let daemon =
        Daemon::with_http_config("[limits]\nmax_streams_per_user = 1\nmax_streams_per_token = 1\n");
    for path in ["/streamfs/1", "/streamfs/2"] {
        daemon.ask("PUT", path, [], b"x").has(201);
    }
    for note in [
        "per_user limit only clients of the socket",
        "per_token have no effect without auth.token_file",
    ] {
        assert!(daemon.log().contains(note), "{note:?} is not in the log: {}", daemon.log());
    }
}

#[test]
fn readers_that_do_not_read_cost_a_bounded_buffer_each() {
    const READERS: usize = 20;
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"32MB\"\nchannel_buffer_size = \"32MB\"\n",
    );
    daemon.create(S);
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut reader = daemon.http();
        reader.request("GET", S, &[], None);
        reader.head().unwrap().has(200);
        stalled.push(reader);
    }
    daemon.pfs(["write", "--stream", S]).stdin(noise(1, 40 * 1024 * 1024)).run().exits(0);
    // Without the ring buffers, which come and go with leases.
    let before = own(daemon.pid());
    daemon.pfs(["write", "--stream", S]).stdin(noise(2, 40 * 1024 * 1024)).run().exits(0);
    daemon.get("/healthz").has(200);
    let each = own(daemon.pid()).saturating_sub(before) / READERS as u64;
    assert!(each < 512 * 1024, "{each} bytes for each reader that does not read");
    drop(stalled);
}

#[test]
fn the_memory_of_a_removed_stream_is_free_at_once_although_clients_still_read_it() {
    const RING: u64 = 6 * 1024 * 1024;
    let daemon = Daemon::with_http_config("[limits]\nmax_memory = \"16MB\"\n");
    let mut stalled = Vec::new();
    let mut before = daemon.memory();
    for round in 0..6 {
        daemon.ask("PUT", S, [], &noise(round, 6 * 1024 * 1024)).has(201);
        assert!(daemon.memory() >= before + RING / 2);
        for accept in ["*/*", "text/event-stream"] {
            let mut reader = daemon.http();
            reader.request("GET", S, &[("accept", accept)], None);
            reader.head().expect("an answer").has(200);
            stalled.push(reader);
        }
        daemon.ask("DELETE", S, [], b"").has(204);
        // The first round also loads the code that the requests run.
        if round == 0 {
            before = daemon.memory();
        }
    }
    let held = daemon.memory().saturating_sub(before);
    assert!(held < RING / 2, "{held} bytes for streams that are removed");
}

/// Starts a daemon with this limit on open files. Returns it with its HTTP address.
fn with_descriptors(limit: usize, folder: &Path) -> (Running, SocketAddr) {
    let command = format!(
        "ulimit -n {limit}; exec {} --http 127.0.0.1:0 --socket {}",
        harness::binary("pfsd").display(),
        folder.join("s").display()
    );
    let daemon = Pfs::new("sh").args(["-c", &command]).spawn();
    let mut address = None;
    eventually("it serves", || {
        let log = daemon.stderr();
        address =
            log.lines().find_map(|line| line.split_once("serving HTTP address=")?.1.parse().ok());
        address.is_some()
    });
    (daemon, address.unwrap())
}

#[test]
fn a_daemon_without_descriptors_says_so_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, address) = with_descriptors(48, folder.path());
    let held: Vec<HttpConnection> = (0..60).map(|_| HttpConnection::connect(address)).collect();
    let refused = "refused: the daemon has no file descriptor left";
    eventually("it has no descriptor left", || daemon.stderr().contains(refused));
    let mut told = HttpConnection::connect(address);
    told.request("GET", "/streamfs/", &[], None);
    told.response().has(503).refuses("too_many_connections");
    drop(held);
    let mut metrics = None;
    eventually("it has descriptors again", || {
        let mut connection = HttpConnection::connect(address);
        connection.request("GET", "/metrics", &[], None);
        metrics = Some(connection.response()).filter(|answer| answer.status == 200);
        metrics.is_some()
    });
    let counted = refusals(metrics.unwrap().text(), "descriptors");
    assert!(counted >= 2, "{counted} refusals");
    // The log may omit further refusals for the same reason.
    assert!(
        (1..=counted).contains(&logged(&daemon.stderr(), "descriptors")),
        "{}",
        daemon.stderr()
    );
    assert!(daemon.runs());
}

#[test]
fn fewer_descriptors_than_configured_are_divided_between_connections_and_streams() {
    const LIMIT: usize = 80;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let (daemon, address) = with_descriptors(LIMIT, folder.path());
    assert!(daemon.stderr().contains("ulimit -n"), "{}", daemon.stderr());
    let pfs =
        |args: &[&str]| Pfs::new(harness::binary("pfs")).arg("--socket").arg(&socket).args(args);
    // More streams than their share of the descriptors.
    for number in 0..20 {
        pfs(&["create", "--ring-buffer-size", "4KB", "--channel-buffer-size", "4KB"])
            .arg(format!("/streamfs/{number}"))
            .run()
            .exits(0);
    }
    pfs(&["write", "--close", "/streamfs/19"]).stdin("plain memory").run().exits(0);
    assert_eq!(pfs(&["cat", "--stream", "/streamfs/19"]).run().exits(0).text(), "plain memory");
    let mut readers = Vec::new();
    let refused = loop {
        let reader = pfs(&["cat", "--stream", "--slow", "block", "/streamfs/0"]).spawn();
        readers.push(reader);
        assert!(readers.len() < LIMIT);
        let ls = pfs(&["ls"]).run();
        if ls.code != 0 {
            break ls;
        }
    };
    refused.exits(1).says("limits.max_connections");
    let mut health = HttpConnection::connect(address);
    health.request("GET", "/healthz", &[], None);
    health.response().has(200);
    assert!(!daemon.stderr().contains("descriptor left"), "{}", daemon.stderr());
}
