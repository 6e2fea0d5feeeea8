//! Access control over HTTP, and the responses to refused requests.

use harness::{Daemon, HttpResponse, eventually};
use tempfile::TempDir;

const ALL: &str = "all-all-all-all-all-all";
const READER: &str = "reader-reader-reader";
const BLOCKER: &str = "blocker-blocker-blocker";
const WRITER: &str = "writer-writer-writer";
const ONE_STREAM: &str = "one-stream-one-stream";

const TOKENS: &str = "# who may do what
all-all-all-all-all-all
reader-reader-reader   read
blocker-blocker-blocker  read,block  /streamfs/mine
writer-writer-writer   write        # a camera
one-stream-one-stream  read,write   /streamfs/mine
";

/// Starts a daemon with tokens. Returns it with the folder of its token file.
fn guarded() -> (Daemon, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKENS).unwrap();
    (Daemon::with_http_config(&format!("[auth]\ntoken_file = {file:?}\n")), folder)
}

fn ask(daemon: &Daemon, token: &str, method: &str, path: &str) -> HttpResponse {
    daemon.ask(method, path, [("authorization", &*format!("Bearer {token}"))], b"x")
}

/// A method and a path.
type Asked = (&'static str, String);

/// Returns one request of each kind: those that read `stream`, and those that write it.
fn requests(stream: &str) -> (Vec<Asked>, Vec<Asked>) {
    let reading = vec![
        ("GET", format!("/streamfs/{stream}?until=caught-up")),
        ("HEAD", format!("/streamfs/{stream}")),
        ("GET", format!("/v1/stream/{stream}?offset=-1")),
        ("HEAD", format!("/v1/stream/{stream}")),
        ("GET", format!("/api/v1/files?path=/streamfs/{stream}&stream=true")),
        ("GET", format!("/api/v1/stat?path=/streamfs/{stream}")),
    ];
    let writing = vec![
        ("PUT", format!("/streamfs/{stream}")),
        ("POST", format!("/streamfs/{stream}")),
        ("PUT", format!("/v1/stream/{stream}")),
        ("POST", format!("/v1/stream/{stream}")),
        ("PUT", format!("/api/v1/files?path=/streamfs/{stream}")),
        ("POST", format!("/api/v1/files?path=/streamfs/{stream}")),
        ("DELETE", format!("/api/v1/files?path=/streamfs/{stream}")),
        ("DELETE", format!("/v1/stream/{stream}")),
        ("DELETE", format!("/streamfs/{stream}")),
    ];
    (reading, writing)
}

#[test]
fn a_missing_or_wrong_token_is_401_on_every_path() {
    let (daemon, _folder) = guarded();
    let (reading, writing) = requests("s");
    let others = [
        "/metrics",
        "/openapi.json",
        "/streamfs/",
        "/v1/frames",
        "/api/v1/health",
        "/nothing/here",
    ];
    let others = others.map(|path| ("GET", path.to_owned()));
    for (method, path) in reading.into_iter().chain(writing).chain(others) {
        for (headers, code) in [
            (vec![], "no_token"),
            (vec![("authorization", "Bearer wrong-wrong-wrong-wrong")], "unknown_token"),
            (vec![("authorization", "Bearer all-all-all-all-all-al")], "unknown_token"),
            (vec![("authorization", "Bearer")], "unknown_token"),
            (vec![("authorization", "Basic YWxsLWFsbC1hbGwtYWxsLWFsbC1hbGw=")], "no_token"),
        ] {
            let mut connection = daemon.http();
            connection.request(method, &path, &headers, Some(b"x"));
            let answer = connection.response().has(401);
            assert!(
                answer.header("www-authenticate").unwrap().starts_with("Bearer"),
                "{method} {path}"
            );
            if method != "HEAD" {
                answer.refuses(code);
            }
        }
    }
    daemon.get("/healthz").has(200);
    assert_eq!(daemon.streams(), [""; 0], "the socket needs no token, and nothing was made");
}

#[test]
fn a_token_permits_what_its_scopes_and_prefixes_say_and_anything_else_is_403() {
    let (daemon, _folder) = guarded();
    for stream in ["mine", "mine/too", "other"] {
        daemon.create(&format!("/streamfs/{stream}"));
    }
    let (reading, writing) = requests("other");
    for (token, refused) in
        [(READER, &writing), (WRITER, &reading), (ONE_STREAM, &reading), (ONE_STREAM, &writing)]
    {
        for (method, path) in refused {
            let status = ask(&daemon, token, method, path).status;
            assert_eq!(status, 403, "{token}: {method} {path}");
        }
    }
    for path in ["/streamfs/", "/metrics", "/api/v1/directories?path=/streamfs"] {
        assert_eq!(ask(&daemon, ONE_STREAM, "GET", path).status, 403, "{path}");
        assert_eq!(ask(&daemon, READER, "GET", path).status, 200, "{path}");
    }
    assert_eq!(daemon.head("/streamfs/other"), 0, "nothing was appended");
    assert_eq!(daemon.streams().len(), 3, "nothing was removed");

    let (mine, too) = ("/streamfs/mine", "/streamfs/mine/too?until=caught-up");
    for (token, method, path) in [
        (WRITER, "PUT", mine),
        (READER, "GET", "/streamfs/mine?until=caught-up"),
        (ONE_STREAM, "PUT", mine),
        (ONE_STREAM, "GET", too),
        (ALL, "PUT", "/streamfs/other"),
        (ALL, "GET", "/metrics"),
    ] {
        let answer = ask(&daemon, token, method, path);
        assert!((200..300).contains(&answer.status), "{token}: {method} {path}: {answer:?}");
    }
    assert_eq!(daemon.head(mine), 2);
    // A path that only shares a prefix of its name is another path, however it is encoded.
    for path in [
        "/streamfs/mine2",
        "/streamfs/mine%2f..%2fother",
        "/streamfs/%6Dine2",
        "/streamfs//mine",
        "/streamfs/mine/../x",
    ] {
        let status = ask(&daemon, ONE_STREAM, "PUT", path).status;
        assert!(matches!(status, 400 | 403 | 404), "{path}: {status}");
    }
    assert_eq!(daemon.streams().len(), 3, "{:?}", daemon.streams());
}

#[test]
fn only_a_token_with_the_scope_block_attaches_a_reader_that_writers_wait_for() {
    let (daemon, folder) = guarded();
    daemon.append("/streamfs/mine", "so far");
    let path = "/streamfs/mine?slow=block&until=caught-up";
    for token in [READER, ONE_STREAM] {
        for more in ["", "&wait", "&from=0"] {
            let message =
                ask(&daemon, token, "GET", &format!("{path}{more}")).has(403).refuses("denied");
            assert!(message.contains("block the writers of /streamfs/mine"), "{message}");
        }
        let authorization = format!("Bearer {token}");
        let (authorization, accept) =
            (("authorization", &*authorization), ("accept", "text/event-stream"));
        daemon.ask("GET", path, [authorization, accept], b"").has(403).refuses("denied");
        daemon
            .ask("GET", path, [authorization, ("range", "bytes=0-2")], b"")
            .has(403)
            .refuses("denied");
        let file = folder.path().join(token);
        std::fs::write(&file, token).unwrap();
        let cat = daemon.pfs_http(["cat", "--stream", "--slow", "block", "/streamfs/mine"]);
        cat.env("PFS_TOKEN_FILE", &file).run().exits(1).says("block the writers");
    }
    for token in [ALL, BLOCKER] {
        assert_eq!(ask(&daemon, token, "GET", path).has(200).body, b"so far");
    }
    let other = path.replace("mine", "other");
    assert_eq!(ask(&daemon, BLOCKER, "GET", &other).status, 403);
    assert_eq!(ask(&daemon, READER, "GET", &path.replace("block", "disconnect")).status, 200);
}

#[test]
fn pfs_over_http_is_limited_by_its_token_too() {
    let (daemon, folder) = guarded();
    daemon.create("/streamfs/mine");
    let with = |token: &str| {
        let file = folder.path().join(token);
        std::fs::write(&file, token).unwrap();
        file
    };
    daemon.pfs_http(["ls", "/streamfs"]).run().exits(1).says("token");
    let token = with(ONE_STREAM);
    daemon
        .pfs_http(["write", "/streamfs/mine"])
        .env("PFS_TOKEN_FILE", &token)
        .stdin("x")
        .run()
        .exits(0);
    daemon
        .pfs_http(["ls", "/streamfs"])
        .env("PFS_TOKEN_FILE", &token)
        .run()
        .exits(1)
        .says("this token may not");
    let reader = with(READER);
    daemon
        .pfs_http(["write", "/streamfs/mine"])
        .env("PFS_TOKEN_FILE", &reader)
        .stdin("x")
        .run()
        .exits(1);
    daemon.pfs_http(["rm", "/streamfs/mine"]).env("PFS_TOKEN_FILE", &reader).run().exits(1);
    let text = daemon.pfs_http(["cat", "--stream", "--until", "caught-up", "/streamfs/mine"]);
    assert_eq!(text.env("PFS_TOKEN_FILE", &reader).run().exits(0).text(), "x");
}

#[test]
fn requests_are_logged_and_tokens_are_not() {
    let (daemon, _folder) = guarded();
    let token = format!("authorization: Bearer {ALL}");
    daemon.curl(["-f", "-T", "-", "-H", &token], "/streamfs/s?close").stdin("hello").run().exits(0);
    ask(&daemon, "wrong-wrong-wrong-wrong", "GET", "/streamfs/s");
    eventually("both are logged", || daemon.log().matches("path=\"/streamfs/s\"").count() == 2);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("method=PUT")).unwrap();
    for part in [
        "remote=127.0.0.1:",
        "status=201",
        "created=true",
        "closed=true",
        "received=5",
        "milliseconds=",
        "end=\"whole\"",
    ] {
        assert!(line.contains(part), "nothing of {part} in {line}");
    }
    for secret in [ALL, "wrong-wrong", "?close"] {
        assert!(!log.contains(secret), "{secret} in the log: {log}");
    }
}

#[test]
fn a_host_of_another_site_is_421_and_those_of_the_daemon_are_served() {
    let daemon = Daemon::with_http_config(
        "[http]\nallowed_hosts = [\"Streams.example.org\", \"a.example:81\"]\n",
    );
    let port = daemon.http_address().port();
    let asked = |host: &str| daemon.ask("GET", "/streamfs/", [("host", host)], b"");
    for host in [
        "evil.example",
        "evil.example:4437",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::1]",
        "a.example:82",
        "a.example",
        "xstreams.example.org",
    ] {
        let message = asked(host).has(421).refuses("foreign_host");
        assert!(message.contains("http.allowed_hosts"), "{message}");
    }
    for host in ["", "a b", "a/b", "me@localhost", "localhost:", "localhost:99999"] {
        asked(host).has(400).refuses("bad_host");
    }
    let known = [
        "localhost",
        &format!("LOCALHOST:{port}"),
        "127.0.0.1",
        "streams.example.org:99",
        "a.example:81",
    ];
    for host in known {
        asked(host).has(200);
    }
    let url = format!("--resolve evil.example:{port}:127.0.0.1");
    let url: Vec<&str> = url.split(' ').collect();
    let run = harness::Pfs::new("curl")
        .args(["-q", "-sS", "--noproxy", "*", "--http2-prior-knowledge"])
        .args(url);
    let run = run
        .args(["-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("http://evil.example:{port}/healthz"))
        .run();
    assert_eq!(run.exits(0).text(), "421", "over HTTP/2 too");
    let mut connection = daemon.http();
    connection.send(b"GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection.response().has(421);
    let mut connection = daemon.http();
    connection.send(b"GET /healthz HTTP/1.1\r\n\r\n");
    connection.response().has(400).refuses("bad_host");
    let mut connection = daemon.http();
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: 127.0.0.1\r\n\r\n");
    connection.response().has(400).refuses("bad_host");
}

#[test]
fn a_page_of_another_site_is_403_and_writes_nothing() {
    let daemon =
        Daemon::with_http_config("[http]\nallowed_origins = [\"https://player.example.org\"]\n");
    let port = daemon.http_address().port();
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://127.0.0.1",
        "https://player.example.org.evil",
        "http://player.example.org",
        "https://player.example.org:444",
        "",
        "%",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE", "OPTIONS"] {
            let answer = daemon.ask(method, "/streamfs/s", [("origin", origin)], b"x").has(403);
            answer.refuses("foreign_origin");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    for site in ["cross-site", "same-site"] {
        for (mode, dest) in
            [("no-cors", "image"), ("no-cors", "video"), ("navigate", "iframe"), ("cors", "empty")]
        {
            let headers =
                [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            daemon.ask("GET", "/streamfs/", headers, b"").has(403).refuses("foreign_origin");
        }
        let form = [
            ("sec-fetch-site", site),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        daemon.ask("POST", "/streamfs/s", form, b"x").has(403).refuses("foreign_origin");
        daemon.ask("GET", "/streamfs/", form, b"").has(200);
    }
    assert!(daemon.streams().is_empty(), "{:?}", daemon.streams());
    for origin in [format!("http://127.0.0.1:{port}"), "https://player.example.org".to_owned()] {
        let answer = daemon.ask("PUT", "/streamfs/s", [("origin", &*origin)], b"x");
        assert!((200..300).contains(&answer.status), "{origin}: {answer:?}");
    }
    let same = [("origin", "http://localhost:81"), ("host", "localhost:81")];
    daemon.ask("GET", "/streamfs/", same, b"").has(200);
}

#[test]
fn a_page_in_a_browser_without_fetch_metadata_attaches_a_block_reader_where_no_token_is_needed_and_a_bound_holds()
 {
    let daemon = Daemon::with_http_config("[limits]\nmax_block_time = \"200ms\"\n");
    daemon.create_with_buffers("/streamfs/s", 64 * 1024, 64 * 1024);
    let mut page = daemon.http();
    page.request(
        "GET",
        "/streamfs/s?slow=block",
        &[("referer", "http://elsewhere.example/")],
        None,
    );
    page.head().expect("an answer").has(200);
    assert_eq!(daemon.readers("/streamfs/s"), 1);
    // More than the kernel and the daemon buffer for a client that does not read.
    let written = daemon
        .pfs(["write", "--stream", "/streamfs/s"])
        .stdin(harness::noise(1, 24 * 1024 * 1024))
        .run();
    written.exits(0);
    let log = daemon.log();
    assert!(log.contains("max_block_time"), "{log}");
}

#[test]
fn a_link_and_a_page_of_another_site_attach_no_reader_that_writers_wait_for() {
    let daemon = Daemon::with_http();
    daemon.append("/streamfs/s", "so far");
    let fetch = |site, mode, dest| {
        [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)].to_vec()
    };
    let (events, part) = (("accept", "text/event-stream"), ("range", "bytes=0-2"));
    for path in
        ["/streamfs/s?slow=block", "/streamfs/s?slow=block&wait", "/streamfs/none?slow=block&wait"]
    {
        for site in ["cross-site", "same-site", "same-origin", "none"] {
            // A range of a stream that does not exist is 404, with any query.
            let part = (!path.contains("none")).then_some(part);
            for more in [None, Some(events), part] {
                let mut headers = fetch(site, "navigate", "document");
                headers.extend(more);
                let mut connection = daemon.http();
                connection.request("GET", path, &headers, None);
                let message = connection.response().has(403).refuses("denied");
                assert!(message.contains("block the writers of /streamfs/"), "{site}: {message}");
            }
        }
        for site in ["cross-site", "same-site"] {
            for dest in ["image", "video", "audio", "script"] {
                let mut connection = daemon.http();
                connection.request("GET", path, &fetch(site, "no-cors", dest), None);
                connection.response().has(403).refuses("foreign_origin");
            }
        }
    }
    // A browser that does not send its site is treated as another site.
    let mode = [("sec-fetch-mode", "no-cors")];
    daemon.ask("GET", "/streamfs/s?slow=block", mode, b"").has(403).refuses("denied");
    assert_eq!(daemon.readers("/streamfs/s"), 0);

    for (site, mode, dest) in [
        ("same-origin", "cors", "empty"),
        ("same-origin", "no-cors", "video"),
        ("none", "no-cors", "empty"),
    ] {
        let mut connection = daemon.http();
        let path = "/streamfs/s?slow=block&until=caught-up";
        connection.request("GET", path, &fetch(site, mode, dest), None);
        assert_eq!(connection.response().has(200).body, b"so far", "{site} {mode}");
    }
    let mut connection = daemon.http();
    let link = fetch("cross-site", "navigate", "document");
    connection.request("GET", "/streamfs/s?until=caught-up", &link, None);
    connection.response().has(200);
}

#[test]
fn a_preflight_is_allowed_to_the_configured_site_and_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKENS).unwrap();
    let daemon = Daemon::with_http_config(&format!(
        "[http]\nallowed_origins = [\"https://player.example.org\"]\n[auth]\ntoken_file = {file:?}\n"
    ));
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "authorization,stream-seq"),
        ];
        daemon.ask("OPTIONS", "/streamfs/s", headers, b"")
    };
    let allowed = preflight("https://player.example.org").has(200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://player.example.org"));
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("PUT"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    let refused = preflight("https://evil.example").has(403);
    assert_eq!(refused.header("access-control-allow-origin"), None);

    let origin = ("origin", "https://player.example.org");
    let without = daemon.ask("GET", "/streamfs/", [origin], b"").has(401);
    assert_eq!(without.header("access-control-allow-origin"), Some("https://player.example.org"));
    let token = format!("Bearer {ALL}");
    let listing =
        daemon.ask("GET", "/streamfs/", [origin, ("authorization", &token)], b"").has(200);
    assert_eq!(listing.header("access-control-allow-origin"), Some("https://player.example.org"));
    assert_eq!(listing.header("access-control-expose-headers"), Some("*"));
}

#[test]
fn a_response_says_what_is_wrong_whatever_the_method() {
    let daemon = Daemon::with_http();
    daemon.get("/nothing/here").has(404).refuses("bad_path");
    let answer = daemon.ask("PATCH", "/healthz", [], b"").has(405);
    assert!(answer.header("allow").unwrap().contains("GET"));
    assert!(answer.refuses("method_not_allowed").contains("GET"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let (get, head) =
        (daemon.get("/healthz").has(200), daemon.ask("HEAD", "/healthz", [], b"").has(200));
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), Some(&*get.body.len().to_string()));
    daemon.create("/streamfs/s");
    let live = daemon.ask("HEAD", "/streamfs/s", [], b"").has(200);
    assert_ne!(live.header("content-length"), Some("0"), "nobody knows its length");
    assert_eq!(daemon.curl(["-f"], "/nothing/here").run().code, 22);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let run =
            daemon.curl([version, "-w", "%{http_version}", "-o", "/dev/null"], "/healthz").run();
        assert_eq!(run.exits(0).text(), if version == "--http1.1" { "1.1" } else { "2" });
    }
}

#[test]
fn http_1_0_gets_bounded_responses_and_no_stream_whose_end_it_could_not_tell() {
    let daemon = Daemon::with_http();
    daemon.create("/streamfs/s");
    daemon.curl(["-f", "-0"], "/healthz").run().exits(0);
    let mut connection = daemon.http();
    connection.send(b"GET /streamfs/s HTTP/1.0\r\n\r\n");
    let answer = String::from_utf8(connection.until_hung_up()).unwrap();
    assert!(answer.starts_with("HTTP/1.0 505") || answer.starts_with("HTTP/1.1 505"), "{answer}");
    assert!(answer.contains("use HTTP/1.1"), "{answer}");
}

#[test]
fn bytes_of_a_writer_are_never_a_page_of_this_origin_on_any_path() {
    let daemon = Daemon::with_http();
    let page = "<script>fetch('/streamfs/secret')</script>";
    let sandbox = "default-src 'none'; sandbox";
    let media = "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; \
                 sandbox allow-same-origin";
    for (media_type, policy) in [
        ("text/html", sandbox),
        ("image/svg+xml", sandbox),
        ("video/webm", media),
        ("image/png", media),
    ] {
        daemon
            .ask("PUT", "/streamfs/s?close", [("content-type", media_type)], page.as_bytes())
            .has(201);
        for (method, path) in [
            ("GET", "/streamfs/s"),
            ("HEAD", "/streamfs/s"),
            ("GET", "/streamfs/s?until=caught-up"),
            ("GET", "/v1/stream/s"),
            ("HEAD", "/v1/stream/s"),
            ("GET", "/v1/stream/s?offset=-1"),
            ("GET", "/v1/stream/s?offset=-1&live=long-poll"),
        ] {
            let answer = daemon.ask(method, path, [], b"").has(200);
            assert_eq!(answer.header("content-security-policy"), Some(policy), "{method} {path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
        }
        // These responses have their own media type, whatever the type of the stream.
        for path in [
            "/v1/stream/s?offset=-1&live=sse",
            "/api/v1/files?path=/streamfs/s&stream=true&until=caught-up",
            "/streamfs/s?stat",
            "/streamfs/none",
            "/streamfs/",
            "/healthz",
        ] {
            let answer = daemon.get(path);
            assert_eq!(answer.header("content-security-policy"), Some(sandbox), "{path}");
        }
        daemon.ask("DELETE", "/streamfs/s", [], b"").has(204);
    }
}
