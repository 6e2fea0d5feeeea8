//! Invalid requests are refused, and the error says what is allowed.

use harness::Daemon;

use super::S;

#[test]
fn a_wrong_method_is_405_with_the_allowed_methods() {
    let daemon = Daemon::with_http();
    for (path, allowed) in [
        (S, "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
        ("/streamfs/", "GET, HEAD, OPTIONS"),
        ("/streamfs/README", "GET, HEAD, OPTIONS"),
    ] {
        let refused = daemon.ask("PATCH", path, [], b"x").has(405);
        refused.refuses("method_not_allowed");
        assert_eq!(refused.header("allow"), Some(allowed), "{path}");
        assert_eq!(
            daemon.ask("OPTIONS", path, [], b"").has(204).header("allow"),
            Some(allowed),
            "{path}"
        );
    }
    daemon.ask("DELETE", "/streamfs/", [], b"").has(405);
}

#[test]
fn an_unknown_query_or_value_is_400_and_the_allowed_ones_are_named() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"abc").has(201);
    for (method, query, says) in [
        ("GET", "form=1", "from, tail, since, until, slow, wait, join, stat"),
        ("GET", "from=first", "oldest, newest or an offset"),
        ("GET", "from=-1", "oldest, newest or an offset"),
        ("GET", "from=oldest&tail=5", "?from cannot be used with ?tail"),
        ("GET", "until=never", "closed, caught-up or writers-gone"),
        ("GET", "slow=fast", "drop, block or disconnect"),
        ("GET", "wait=1", "true or false"),
        ("GET", "join=maybe", "auto, sync or raw"),
        ("GET", "since=yesterday", "10s or 5m"),
        ("GET", "since=18446744073709551615s1000000000ns", "10s or 5m"),
        ("GET", "stat&from=5", "?from cannot be used with ?stat"),
        ("HEAD", "from=5", ""),
        ("PUT", "from=5", "close, create, replace, ring-buffer-size, channel-buffer-size, ttl"),
        ("PUT", "close=yes", "true, false or failed"),
        ("PUT", "ttl=1h", "?create"),
        ("PUT", "create&ttl=18446744073709551615s1000000000ns", "10s, 5m or 1h30m"),
        ("POST", "create&ring-buffer-size=huge", "512KB"),
        ("DELETE", "force", "takes no parameters"),
    ] {
        let mut connection = daemon.http();
        connection.request(method, &format!("{S}?{query}"), &[], (method == "PUT").then_some(b"x"));
        let refused = connection.response().has(400);
        if method != "HEAD" {
            let message = refused.refuses("bad_option");
            assert!(message.contains(says), "{method} ?{query}: {message}");
        }
    }
    assert_eq!(daemon.head(S), 3, "nothing was appended");
}

#[test]
fn a_form_is_refused_by_every_protocol_and_no_boundary_gets_into_a_stream() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/v1/stream/old", [("content-type", "text/plain")], b"old").has(201);
    let form = [("content-type", "Multipart/Form-Data; boundary=x")];
    let body = b"--x\r\ncontent-disposition: form-data; name=\"f\"\r\n\r\ndata\r\n--x--\r\n";
    for (method, path) in [
        ("PUT", S),
        ("POST", "/streamfs/old"),
        ("POST", "/streamfs/s?create"),
        ("PUT", "/v1/stream/s"),
        ("POST", "/v1/stream/old"),
        ("PUT", "/api/v1/files?path=/streamfs/s"),
    ] {
        let refused = daemon.ask(method, path, form, body).has(415);
        let text = refused.text();
        assert!(
            text.contains("curl -T FILE") && text.contains("--data-binary"),
            "{method} {path}: {text}"
        );
    }
    let curl = daemon.curl(["-F", "f=@Cargo.toml"], S).run().exits(0);
    assert!(curl.text().contains("bad_media_type"), "{}", curl.text());
    assert_eq!(daemon.streams(), ["/streamfs/old"]);
    assert_eq!(daemon.head("/streamfs/old"), 3);
    // The pictures of a camera have a multipart type too.
    let pictures = [("content-type", "multipart/x-mixed-replace; boundary=x")];
    daemon.ask("PUT", S, pictures, b"--x\r\n").has(201);
    assert_eq!(
        daemon.get("/streamfs/s?until=caught-up").header("content-type"),
        Some(pictures[0].1)
    );
}

#[test]
fn a_path_that_no_stream_can_have_is_refused() {
    let daemon = Daemon::with_http();
    for (path, status) in [
        ("/memfs/s", 404),
        ("/streamfs/a%00b", 400),
        ("/streamfs/a%FFb", 400),
        ("/streamfs/a%E2%80%AEb", 400),
        ("/streamfs/a%20", 400),
        ("/streamfs/a//b", 400),
        ("/streamfs/../etc/passwd", 400),
        ("/streamfs/%2e%2e/etc/passwd", 400),
    ] {
        for method in ["GET", "PUT"] {
            daemon.ask(method, path, [], b"x").has(status).refuses("bad_path");
        }
    }
    daemon.get(&format!("/streamfs/{}", "x".repeat(2000))).has(400).refuses("bad_path");
    assert!(daemon.streams().is_empty());
}
