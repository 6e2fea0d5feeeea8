//! `pfs create`: sizes, expiry and media type of a stream.

use harness::{Daemon, Signal, Transport, eventually};

const S: &str = "/streamfs/s";

harness::per_transport! {
    a_stream_that_nobody_closed_is_removed_when_it_was_idle_for_idle_ttl_and_one_that_is_read_stays,
}

#[test]
fn a_stream_gets_the_sizes_and_the_type_that_were_asked_for() {
    let daemon = Daemon::start();
    let sizes = [
        "--ring-buffer-size",
        "512KB",
        "--channel-buffer-size",
        "1.5MB",
        "--content-type",
        "video/mp2t",
    ];
    daemon.pfs(["create", S]).args(sizes).run().exits(0).quietly();
    let stat = daemon.stat(S).unwrap();
    assert_eq!(stat["ring_buffer_size"], 512 * 1024);
    assert_eq!(stat["channel_buffer_size"], 3 << 19);
    assert!(stat["capacity"].as_u64() < Some(4096), "it takes memory as it needs it");
    assert_eq!(stat["content_type"], "video/mp2t");
    assert_eq!((stat["state"].as_str(), stat["head"].as_u64()), (Some("open"), Some(0)));
}

#[test]
fn a_stream_that_reserves_memory_has_it_from_the_start_or_is_not_created() {
    let daemon = Daemon::with_http_config("[limits]\nmax_memory = \"16MB\"\n");
    daemon.pfs(["create", "--reserve", S]).run().exits(0).quietly();
    assert_eq!(
        (daemon.stat_number(S, "capacity"), daemon.stat_number(S, "moves")),
        (6 * 1024 * 1024, 0)
    );
    let refused =
        daemon.pfs(["create", "--reserve", "/streamfs/t", "--ring-buffer-size", "10MB"]).run();
    refused.exits(1).says("max_memory");
    daemon.ask("PUT", "/streamfs/t?create&reserve&ring-buffer-size=10MB", [], b"").has(429);
    daemon.ask("PUT", "/streamfs/t?reserve", [], b"").has(400);
    assert_eq!(daemon.streams(), [S]);
    daemon
        .ask(
            "PUT",
            "/streamfs/t?create&reserve&ring-buffer-size=1MB&channel-buffer-size=1MB",
            [],
            b"",
        )
        .has(201);
    assert_eq!(daemon.stat_number("/streamfs/t", "capacity"), 1024 * 1024);
}

#[test]
fn ten_thousand_small_streams_fit_into_a_daemon_with_its_defaults() {
    const STREAMS: usize = 10_000;
    let daemon = Daemon::with_http();
    let mut http = daemon.http();
    for number in 0..STREAMS {
        http.request("PUT", &format!("/streamfs/job-{number}"), &[], Some(b"x\n"));
        http.response().has(201);
    }
    assert_eq!(daemon.streams().len(), STREAMS);
    let info = daemon.pfs(["info", "--json"]).run().exits(0);
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    let memory = info["memory"].as_u64().unwrap();
    assert!(memory < STREAMS as u64 * 4096, "{memory} bytes");
}

#[test]
fn every_way_to_write_a_size_means_the_same_everywhere() {
    for (written, bytes) in
        [("524288", 524_288), ("512KB", 524_288), ("1.5MB", 1_572_864), ("6MiB", 6_291_456)]
    {
        let daemon = Daemon::with_config(&format!(
            "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n[plugins.streamfs.config]\nring_buffer_size = \"{written}\"\n"
        ));
        daemon.create(S);
        assert_eq!(
            daemon.stat_number(S, "ring_buffer_size"),
            bytes,
            "{written} in the configuration"
        );
        daemon.pfs(["create", "--ring-buffer-size", written, "/streamfs/t"]).run().exits(0);
        assert_eq!(
            daemon.stat_number("/streamfs/t", "ring_buffer_size"),
            bytes,
            "{written} on the command line"
        );
    }
}

#[test]
fn the_default_sizes_are_those_of_streamfs() {
    let daemon = Daemon::start();
    daemon.pfs(["write", S]).stdin("x").run().exits(0);
    assert_eq!(daemon.stat_number(S, "ring_buffer_size"), 6 * 1024 * 1024);
    assert_eq!(daemon.stat_number(S, "channel_buffer_size"), 6 * 1024 * 1024);
}

#[test]
fn creating_an_existing_stream_fails_and_leaves_it_unchanged() {
    let daemon = Daemon::start();
    daemon.pfs(["write", S]).stdin("all").run().exits(0);
    daemon.pfs(["create", "--ring-buffer-size", "1KB", S]).run().exits(9).says(S);
    assert_eq!(daemon.stat_number(S, "ring_buffer_size"), 6 * 1024 * 1024);
    assert_eq!(daemon.head(S), 3);
}

#[test]
fn a_stream_expires_when_nothing_was_appended_for_its_ttl() {
    let daemon = Daemon::start();
    daemon.pfs(["create", "--ttl", "1h", "/streamfs/stays"]).run().exits(0);
    assert_eq!(daemon.stat_number("/streamfs/stays", "ttl_ms"), 3_600_000);
    let reader = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("it waits for the stream", || reader.stderr().contains(S));
    daemon.pfs(["create", "--ttl", "1s", S]).run().exits(0);
    reader.finish().exits(7);
    assert_eq!(daemon.streams(), ["/streamfs/stays"]);
}

fn a_stream_that_nobody_closed_is_removed_when_it_was_idle_for_idle_ttl_and_one_that_is_read_stays(
    transport: Transport,
) {
    let daemon = transport.daemon_with_config("[limits]\nidle_ttl = \"1s\"\n");
    let reader = daemon.pfs(["cat", "--stream", S]).spawn();
    eventually("it waits for the stream", || reader.stderr().contains(S));
    daemon.create(S);
    daemon.pfs(["write", "--close", "/streamfs/closed"]).stdin("all").run().exits(0);
    daemon.pfs(["create", "--ttl", "1h", "/streamfs/mortal"]).run().exits(0);
    // Created after the stream that is being read.
    daemon.pfs(["write", "/streamfs/idle"]).stdin("left").run().exits(0);
    let stay = ["/streamfs/closed", "/streamfs/mortal", S];
    eventually("the idle one is removed", || daemon.streams() == stay);
    daemon.pfs(["write", S]).stdin("more").run().exits(0);
    eventually("it is read", || reader.stdout_len() == 4);
    reader.signal(Signal::INT);
    reader.finish().exits(130);
    eventually("the one that is read no longer is removed", || daemon.streams() == stay[..2]);
}

#[test]
fn a_reload_of_idle_ttl_applies_to_existing_streams() {
    let daemon = Daemon::with_config("[limits]\nidle_ttl = \"1h\"\n");
    daemon.create(S);
    let told = daemon.reload("[limits]\nidle_ttl = \"1s\"\n").exits(0);
    assert!(told.text().contains("limits.idle_ttl from 1h to 1s"), "{}", told.text());
    eventually("it is removed", || daemon.streams().is_empty());
    let told = daemon.reload("").exits(0);
    assert!(told.text().contains("limits.idle_ttl from 1s to off"), "{}", told.text());
    assert!(daemon.log().contains("stream expired"), "{}", daemon.log());
}

#[test]
fn names_may_have_several_segments_and_any_script() {
    let daemon = Daemon::start();
    for name in ["/streamfs/lab/3/cam", "/streamfs/Zürich Hbf", "/streamfs/摄像头", "/streamfs/..."]
    {
        daemon.pfs(["write", "--close", name]).stdin(name).run().exits(0);
        assert_eq!(daemon.pfs(["cat", "--stream", name]).run().exits(0).text(), name);
        assert_eq!(daemon.stat(name).unwrap()["path"], name);
    }
    assert_eq!(daemon.streams().len(), 4);
}

#[test]
fn the_configuration_sets_the_path_of_the_mount() {
    let daemon = Daemon::with_config("[plugins.streamfs]\nenabled = true\npath = \"/live\"\n");
    daemon.pfs(["write", "--close", "/live/s"]).stdin("all").run().exits(0);
    assert_eq!(daemon.streams(), ["/live/s"]);
    daemon.pfs(["write", "/streamfs/s"]).stdin("x").run().exits(2).says("/live");
    daemon.pfs(["cat", "/live/README"]).run().exits(0);
}
