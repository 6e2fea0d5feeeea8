//! For operators: health check, metrics, API description and dashboard.

use std::collections::BTreeMap;

use harness::{Daemon, HttpResponse, Transport, eventually};
use serde_json::Value;

const S: &str = "/streamfs/s";

/// Token that the daemon requires.
const TOKEN: &str = "secret-secret-secret-secret";

fn with_token() -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("the test's own folder");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("our own file");
    (Daemon::with_http_config(&format!("[auth]\ntoken_file = {file:?}\n")), folder)
}

/// Parses all samples of the metrics, keyed by name and labels.
fn metrics(daemon: &Daemon) -> BTreeMap<String, f64> {
    let answer = daemon.get("/metrics").has(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = answer.text().lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    samples.map(pair).collect()
}

#[track_caller]
fn metric(daemon: &Daemon, name: &str) -> f64 {
    let metrics = metrics(daemon);
    *metrics.get(name).unwrap_or_else(|| panic!("no {name} in {metrics:#?}"))
}

#[test]
fn bytes_are_counted_by_transport() {
    let daemon = Daemon::with_http();
    let count = |what: &str, transport: &str| {
        metric(&daemon, &format!("pfs_{what}_bytes_total{{transport=\"{transport}\"}}"))
    };
    for (transport, label) in [(Transport::Shm, "shm"), (Transport::Unix, "unix")] {
        let stream = format!("/streamfs/{label}");
        daemon
            .pfs_on(transport, ["write", "--stream", "--close", &stream])
            .stdin("x".repeat(1000))
            .run()
            .exits(0);
        daemon.pfs_on(transport, ["cat", "--stream", &stream]).run().exits(0);
    }
    assert_eq!(
        (count("written", "shm"), count("written", "unix")),
        (0., 2000.),
        "neither has a lease"
    );
    let mut holder =
        daemon.pfs(["write", "--stream", "--close", "/streamfs/leased"]).stdin_pipe().spawn();
    let mut given = 0;
    eventually("a writer appends under a lease", || {
        holder.send(&[b'x'; 64 * 1024]);
        given += 64 * 1024;
        count("written", "shm") > 0.
    });
    holder.finish().exits(0);
    assert_eq!(count("written", "shm") + count("written", "unix"), f64::from(given + 2000));
    daemon
        .pfs_http(["write", "--stream", "--close", "/streamfs/frames"])
        .stdin("x".repeat(1000))
        .run()
        .exits(0);
    daemon.ask("PUT", "/streamfs/plain", [], &[0; 1000]).has(201);
    daemon.get("/streamfs/plain?until=caught-up").has(200);
    assert_eq!(count("written", "http"), 2000.);
    for transport in ["shm", "unix", "http"] {
        eventually("the readers have gone", || count("read", transport) == 1000.);
    }
    assert_eq!(metric(&daemon, "pfs_http_received_bytes_total{protocol=\"plain\"}"), 1000.);
    assert!(metric(&daemon, "pfs_http_received_bytes_total{protocol=\"frames\"}") > 1000.);
}

#[test]
fn losses_of_an_shm_reader_are_counted_while_it_reads_and_afterwards() {
    let daemon = Daemon::with_http_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"64KB\"\nchannel_buffer_size = \"64KB\"\n",
    );
    daemon.create(S);
    let mut reader = daemon.piped_reader_on(Transport::Shm, S, []);
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
    let input = writer.feed(|_| vec![0; 1024 * 1024]);
    eventually("it has lost something, though it has not looked yet", || daemon.all_have_lost(S));
    let sent = input.end().len();
    eventually("all is appended", || daemon.head(S) == sent as u64);
    let output = reader.take_stdout();
    let copied = std::thread::spawn(move || std::io::copy(&mut { output }, &mut std::io::sink()));
    eventually("the loss is seen", || metric(&daemon, "pfs_lost_bytes_total") > 0.);
    assert_eq!(metric(&daemon, "pfs_readers{policy=\"drop\"}"), 1.);
    daemon.close(S);
    assert_eq!(reader.finish().code, 4);
    let got = copied.join().unwrap().unwrap() as f64;
    eventually("it has gone", || metric(&daemon, "pfs_readers{policy=\"drop\"}") == 0.);
    eventually("it is counted", || {
        metric(&daemon, "pfs_read_bytes_total{transport=\"shm\"}") == got
    });
    assert_eq!(metric(&daemon, "pfs_lost_bytes_total"), sent as f64 - got);
    assert!(metric(&daemon, "pfs_gaps_total") >= 1.);
    assert!(metric(&daemon, "pfs_lost_chunks_total") >= 1.);
}

#[test]
fn requests_are_counted_by_protocol_method_and_status_and_no_client_can_add_labels() {
    let daemon = Daemon::with_http();
    let before = metrics(&daemon).len();
    for name in 0..50 {
        daemon.ask("GET", &format!("/streamfs/none-{name}"), [], b"").has(404);
        daemon.ask(&format!("MADEUP{name}"), S, [], b"").has(405);
    }
    assert_eq!(
        metric(
            &daemon,
            "pfs_http_requests_total{protocol=\"plain\",method=\"GET\",status=\"404\"}"
        ),
        50.
    );
    assert_eq!(
        metric(
            &daemon,
            "pfs_http_requests_total{protocol=\"plain\",method=\"other\",status=\"405\"}"
        ),
        50.
    );
    assert_eq!(metrics(&daemon).len(), before + 3, "these two, and that of asking for metrics");
}

#[test]
fn without_a_token_only_the_health_check_and_the_dashboard_s_own_files_are_served() {
    let (daemon, _folder) = with_token();
    for path in
        ["/healthz", "/", "/assets/dashboard.js", "/assets/follow.js", "/assets/dashboard.css"]
    {
        daemon.get(path).has(200);
    }
    let token = format!("Bearer {TOKEN}");
    for path in ["/metrics", "/openapi.json", "/api/v1/health", "/streamfs/"] {
        daemon.get(path).has(401);
        daemon.ask("GET", path, [("authorization", &token)], b"").has(200);
    }
}

#[test]
fn the_dashboard_contains_and_may_load_nothing_from_other_sites() {
    let daemon = Daemon::with_http();
    let page = daemon.get("/").has(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for path in ["/", "/assets/dashboard.js", "/assets/follow.js", "/assets/dashboard.css"] {
        let file = daemon.get(path).has(200);
        let text = file.text();
        // Text from streams must not become part of the page.
        for bad in [
            "http://",
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "style=",
            "onclick",
        ] {
            assert!(!text.contains(bad), "{bad} in {path}");
        }
    }
}

/// Sends a request for an operation of the API description, on a stream that exists.
fn answer(daemon: &Daemon, method: &str, path: &str) -> HttpResponse {
    daemon.ask("PUT", S, [], b"x");
    let path = path.replace("{name}", "s").replace("{file}", "dashboard.js");
    let query = if path.starts_with("/api/v1/") { format!("?path={S}") } else { String::new() };
    let until = if method == "get" && path == S { "?until=caught-up" } else { "" };
    let media_type = if path == "/v1/frames" {
        "application/vnd.pfs.frames"
    } else {
        "application/octet-stream"
    };
    let headers = [("content-type", media_type)];
    daemon.ask(&method.to_uppercase(), &format!("{path}{query}{until}"), headers, b"")
}

#[test]
fn every_operation_in_the_api_description_exists() {
    let daemon = Daemon::with_http();
    let description: Value = daemon.get("/openapi.json").has(200).json();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut operations = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let Some(responses) = operation.get("responses") else { continue };
            let answer = answer(&daemon, method, path);
            let is_described = responses.get(answer.status.to_string()).is_some();
            assert!(is_described, "{method} {path}: {} is not described", answer.status);
            assert!(
                answer.status != 404 && answer.status != 405,
                "{method} {path}: {}",
                answer.status
            );
            operations += 1;
        }
    }
    assert!(operations >= 24, "only {operations} operations are described");
}

#[test]
fn the_api_description_names_the_mount_that_is_served() {
    let daemon = Daemon::with_http_config("[plugins.streamfs]\npath = \"/live\"\n");
    let description = daemon.get("/openapi.json").has(200);
    assert!(description.json()["paths"].get("/live/{name}").is_some());
    assert!(!description.text().contains("/streamfs"));
}
