//! Stream identity: entity tags, and conditional requests.

use harness::{Daemon, HttpResponse};

use super::S;

#[track_caller]
fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
    let mut connection = daemon.http();
    connection.request(
        method,
        path,
        headers,
        (method == "PUT" || method == "POST").then_some(b"more"),
    );
    connection.response()
}

/// Returns the entity tag of a response, whose body may never end.
#[track_caller]
fn tag(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut connection = daemon.http();
    connection.request(method, path, headers, None);
    connection.head().expect("an answer").header("etag").expect("a tag").to_owned()
}

/// Returns the entity tag from a HEAD response.
#[track_caller]
fn tag_of(daemon: &Daemon) -> String {
    tag(daemon, "HEAD", S, &[])
}

#[test]
fn every_response_with_bytes_has_the_tag_of_its_stream_and_tags_of_streams_differ() {
    let mut daemon = Daemon::with_http();
    let mut tags = Vec::new();
    for round in 0..3 {
        daemon.ask("PUT", S, [], b"0123456789").has(201);
        let own = tag_of(&daemon);
        assert!(own.starts_with('"') && own.ends_with('"'), "it is a strong one: {own}");
        assert_eq!(tag(&daemon, "GET", S, &[]), own);
        assert_eq!(tag(&daemon, "GET", S, &[("range", "bytes=3-5")]), own);
        // The tag stays the same when the stream grows or is closed.
        daemon.ask("POST", "/streamfs/s?close", [], b"more").has(200);
        assert_eq!(tag(&daemon, "GET", S, &[]), own);
        assert_eq!(tag(&daemon, "GET", S, &[("range", "bytes=0-")]), own);
        assert!(!tags.contains(&own), "{own} was there before");
        tags.push(own);
        if round == 0 {
            daemon.remove(S);
        } else {
            daemon.kill9();
            daemon.restart();
        }
    }
}

#[test]
fn a_body_that_does_not_begin_at_offset_0_has_a_weak_tag_and_is_not_continued_by_a_range() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", "/streamfs/s?close", [], b"0123456789").has(201);
    let own = tag_of(&daemon);
    let weak = format!("W/{own}");
    for (query, expected) in
        [("?from=4", &weak), ("?tail=1", &weak), ("?from=0", &own), ("?tail=1KB", &own)]
    {
        assert_eq!(&tag(&daemon, "GET", &format!("{S}{query}"), &[]), expected, "{query}");
    }
    // Byte 2 of "456789" is not byte 2 of the stream.
    let whole = ask(&daemon, "GET", S, &[("range", "bytes=2-"), ("if-range", &weak)]).has(200);
    assert_eq!(whole.text(), "0123456789");
}

#[test]
fn a_range_is_served_of_the_stream_that_if_range_names_and_otherwise_everything() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"of before").has(201);
    let old = tag_of(&daemon);
    daemon.remove(S);
    daemon.ask("PUT", S, [], b"0123456789").has(201);
    let own = tag_of(&daemon);
    let part = ask(&daemon, "GET", S, &[("range", "bytes=3-"), ("if-range", &own)]).has(206);
    assert_eq!((part.text(), part.header("etag")), ("3456789", Some(own.as_str())));
    // The response for an open stream follows it.
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    for other in [old.as_str(), &format!("W/{own}"), date, "nonsense"] {
        let mut follower = daemon.http();
        follower.request("GET", S, &[("range", "bytes=3-"), ("if-range", other)], None);
        let head = follower.head().unwrap().has(200);
        assert_eq!((head.header("etag"), head.header("content-range")), (Some(own.as_str()), None));
        assert_eq!(follower.pieces(10), b"0123456789", "{other}");
    }
    daemon.close(S);
    for (given, status) in [(&own, 206), (&old, 200)] {
        let got =
            ask(&daemon, "GET", S, &[("range", "bytes=3-5"), ("if-range", given)]).has(status);
        assert_eq!(got.text(), if status == 206 { "345" } else { "0123456789" });
    }
    ask(&daemon, "GET", S, &[("range", "bytes=11-"), ("if-range", &own)])
        .has(410)
        .refuses("not_held");
    ask(&daemon, "GET", S, &[("range", "bytes=10-"), ("if-range", &own)])
        .has(416)
        .refuses("not_held");
}

#[test]
fn curl_resumes_the_stream_that_it_has_and_no_other() {
    let daemon = Daemon::with_http();
    let (saved, file) = (daemon.dir().join("s.etag"), daemon.dir().join("s"));
    let (saved, file) = (saved.to_str().unwrap(), file.to_str().unwrap());
    daemon.ask("PUT", S, [], b"01234").has(201);
    // Ends in the middle of the stream.
    daemon
        .curl(["-f", "--etag-save", saved, "-o", file], "/streamfs/s?until=caught-up")
        .run()
        .exits(0);
    let tag = std::fs::read_to_string(saved).unwrap();
    assert_eq!(tag.trim(), tag_of(&daemon));
    let if_range = format!("If-Range: {}", tag.trim());
    let goes_on = || daemon.curl(["-f", "-C", "-", "-H", &if_range, "-o", file], S).run();
    daemon.ask("POST", "/streamfs/s?close", [], b"56789").has(200);
    goes_on().exits(0);
    assert_eq!(std::fs::read(file).unwrap(), b"0123456789");

    daemon.remove(S);
    daemon.ask("PUT", "/streamfs/s?close", [], b"another one, and longer").has(201);
    goes_on().exits(33);
    assert_eq!(std::fs::read(file).unwrap(), b"0123456789", "nothing of the other is in the file");
}

#[test]
fn if_match_is_a_condition_of_every_method() {
    let daemon = Daemon::with_http();
    daemon.ask("PUT", S, [], b"of before").has(201);
    let old = tag_of(&daemon);
    daemon.remove(S);
    // The stream does not exist, and these requests create none.
    ask(&daemon, "PUT", S, &[("if-match", &old)]).has(412).refuses("precondition_failed");
    ask(&daemon, "PUT", "/streamfs/s?create", &[("if-match", "*")])
        .has(412)
        .refuses("precondition_failed");
    ask(&daemon, "GET", S, &[("if-match", &old)]).has(404).refuses("no_such_stream");
    assert!(daemon.streams().is_empty());
    daemon.ask("PUT", S, [], b"0123456789").has(201);
    let own = tag_of(&daemon);
    let reading = ["?until=caught-up", "?from=4&until=caught-up", "?stat"];
    let requests = reading.map(|query| ("GET", query)).into_iter();
    let requests = requests.chain([("HEAD", ""), ("PUT", ""), ("POST", ""), ("DELETE", "")]);
    for (method, query) in requests {
        let path = format!("{S}{query}");
        for other in [&old, &format!("W/{own}")] {
            let refused = ask(&daemon, method, &path, &[("if-match", other)]).has(412);
            if method != "HEAD" {
                let message = refused.refuses("precondition_failed");
                assert!(message.contains(S) && message.contains(&own), "{message}");
            }
        }
        assert!(tag_of(&daemon) == own, "it was neither removed nor made anew");
        let both = format!("{old}, {own}");
        let done = ask(&daemon, method, &path, &[("if-match", &both)]);
        assert!(done.status < 300, "{method} {path}: {done:?}");
        assert_eq!(
            if method == "DELETE" { 18 } else { daemon.head(S) },
            match method {
                "PUT" => 14,
                "POST" | "DELETE" => 18,
                _ => 10,
            }
        );
    }
    assert!(daemon.streams().is_empty());
    let mut events = daemon.http();
    daemon.ask("PUT", S, [], b"0123456789").has(201);
    events.request("GET", S, &[("accept", "text/event-stream"), ("if-match", &old)], None);
    events.response().has(412).refuses("precondition_failed");
}

#[test]
fn if_none_match_stops_writers_and_never_hides_new_bytes() {
    let daemon = Daemon::with_http();
    ask(&daemon, "PUT", S, &[("if-none-match", "*")]).has(201);
    let own = tag_of(&daemon);
    for tags in ["*", &own, &format!("W/{own}")] {
        for method in ["PUT", "POST", "DELETE"] {
            ask(&daemon, method, S, &[("if-none-match", tags)])
                .has(412)
                .refuses("precondition_failed");
        }
        // The tag does not tell how many bytes the client has.
        let path = "/streamfs/s?until=caught-up";
        assert_eq!(ask(&daemon, "GET", path, &[("if-none-match", tags)]).has(200).text(), "more");
        ask(&daemon, "HEAD", S, &[("if-none-match", tags)]).has(200);
    }
    assert_eq!(daemon.head(S), 4);
    ask(&daemon, "POST", S, &[("if-none-match", "\"another\"")]).has(200);
    assert_eq!(daemon.head(S), 8);
}
