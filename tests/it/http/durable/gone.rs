//! Offsets and streams that no longer exist: the response is 410, never other data instead.

use super::{TEXT, controls, next, small};

#[test]
fn an_offset_that_left_the_ring_is_410_and_the_earliest_one_is_named() {
    let daemon = small();
    let created = daemon.ask("PUT", "/v1/stream/s", [TEXT], b"").has(201);
    let first = next(&created);
    for letter in [b"a", b"b", b"c"] {
        daemon.ask("POST", "/v1/stream/s", [TEXT], &letter.repeat(30_000)).has(204);
    }

    for live in ["", "&live=long-poll", "&live=sse"] {
        let gone = daemon.get(&format!("/v1/stream/s?offset={first}{live}")).has(410);
        let earliest =
            gone.header("stream-earliest-offset").expect("the earliest offset").to_owned();
        assert!(gone.refuses("gone").contains(&earliest), "the message tells it too");
        assert!(earliest > first);
        let rest = daemon.get(&format!("/v1/stream/s?offset={earliest}")).has(200);
        assert_eq!(rest.body, [b"b".repeat(30_000), b"c".repeat(30_000)].concat());
    }
    // A request for the beginning gets the bytes that are left, and the response shows that they
    // are not the beginning.
    let all = daemon.get("/v1/stream/s?offset=-1").has(200);
    assert_eq!(all.body.len(), 60_000);
    assert!(all.header("stream-earliest-offset").unwrap() > first.as_str());
}

#[test]
fn an_offset_is_not_valid_in_another_stream_of_the_same_name() {
    let mut daemon = small();
    let old = next(&daemon.ask("PUT", "/v1/stream/s", [TEXT], b"old!").has(201));
    daemon.ask("DELETE", "/v1/stream/s", [], b"").has(204);
    daemon.get(&format!("/v1/stream/s?offset={old}")).has(404);
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"new and longer").has(201);
    daemon.get(&format!("/v1/stream/s?offset={old}")).has(410).refuses("gone");

    let old = next(&daemon.get("/v1/stream/s").has(200));
    daemon.kill9();
    daemon.restart();
    daemon.ask("PUT", "/v1/stream/s", [TEXT], b"after the restart").has(201);
    daemon.get(&format!("/v1/stream/s?offset={old}")).has(410).refuses("gone");
}

#[test]
fn a_page_is_bounded_and_pages_add_up_to_the_stream() {
    let daemon = harness::Daemon::with_http();
    let noise = harness::noise(1, 2_000_000);
    let created = daemon.ask("PUT", "/v1/stream/s", [TEXT], &noise).has(201);
    let (mut read, mut at, mut pages) = (Vec::new(), "-1".to_owned(), 0);
    loop {
        let page = daemon.get(&format!("/v1/stream/s?offset={at}")).has(200);
        assert!(page.body.len() <= 64 * 1024, "{} bytes", page.body.len());
        read.extend_from_slice(&page.body);
        at = next(&page);
        pages += 1;
        if page.header("stream-up-to-date").is_some() {
            break;
        }
    }
    assert!(pages > 5 && read == noise);
    assert_eq!(at, next(&created));
}

#[test]
fn a_live_reader_that_lost_data_is_cut_off_and_told_when_it_reconnects() {
    let daemon = small();
    daemon.ask("PUT", "/v1/stream/s", [("content-type", "video/mp2t")], b"").has(201);
    let mut reader = daemon.http();
    reader.request("GET", "/v1/stream/s?offset=now&live=sse", &[], None);
    let mut response = reader.head().expect("an answer").has(200);
    assert_eq!(response.header("stream-sse-data-encoding"), Some("base64"));
    let mut writer = daemon.appender("/streamfs/s");
    writer.append_until(64 * 1024, || daemon.all_have_lost("/streamfs/s"));
    writer.finish();
    reader.rest(&mut response);
    assert!(!response.whole, "a reader that lost something must not take it for the end");
    let text = response.text();
    let whole = &text[..text.rfind("\n\n").map_or(0, |end| end + 2)];
    let told = controls(whole);
    let last = told.last().expect("it was told where it is")["streamNextOffset"].as_str().unwrap();
    daemon.get(&format!("/v1/stream/s?offset={last}&live=sse")).has(410).refuses("gone");
}
