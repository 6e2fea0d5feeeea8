//! What `pfs stat`, `pfs info`, the metrics and watchers tell about mounted streams.

use harness::{Daemon, Link, Transport, eventually};
use pfs_proto::{ErrorCode, Reply, Request, StreamEvent};
use serde_json::{Value, json};

use super::{EDGE, S, edge, owner_and_edge};

/// Numbers of a link, in JSON, without its times.
fn link(stat: &Value) -> Value {
    let mut link = stat["hops"][0]["link"].clone();
    link.as_object_mut().unwrap().remove("since");
    link
}

#[track_caller]
fn shows<const N: usize>(daemon: &Daemon, args: [&str; N], part: &str) {
    let run = daemon.pfs(args).run().exits(0).quietly();
    assert!(run.text().contains(part), "no {part:?} in {}", run.text());
}

#[test]
fn stats_show_the_readers_of_the_owner_and_how_the_stream_comes_here() {
    let owner = Daemon::with_http();
    let link_to_owner = Link::to(owner.http_address(), "");
    let edge = edge(Transport::Http, &link_to_owner.url());
    owner.append(S, b"contents");
    let stat = edge.stat(EDGE).unwrap();
    let hop = &stat["hops"][0];
    let url = format!("{}/streamfs", link_to_owner.url());
    assert_eq!((&hop["mount"], &hop["owner"]), (&json!("/edge"), &json!(url)));
    assert!(hop["round_trip_us"].as_u64().is_some_and(|micros| micros > 0), "{hop}");
    // A look at the stats replicates nothing.
    assert_eq!((&hop["link"], &stat["readers"]), (&Value::Null, &json!([])));
    shows(&edge, ["stat"], "; not followed\n");
    let json = edge.get(&format!("{EDGE}?stat")).has(200).text().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["hops"][0]["link"], Value::Null);
    assert_eq!(owner.stat(S).unwrap()["readers"], json!([]));

    let reader = edge.reader(EDGE, []);
    let _blocks = edge.reader(EDGE, ["--slow", "block"]);
    let stat = edge.stat(EDGE).unwrap();
    let of_link = json!({
        "connected": true, "policy": "block", "lag": 0, "reconnects": 0, "lost_bytes": 0, "readers": 2,
    });
    assert_eq!(link(&stat), of_link);
    assert_eq!(stat["readers"].as_array().unwrap().len(), 1, "the owner's reader is the link");
    link_to_owner.cut();
    eventually("the link is restored", || link(&edge.stat(EDGE).unwrap())["reconnects"] == 1);
    shows(&edge, ["stat", EDGE], "1 reconnect, 0 B lost, 2 readers here\n");
    owner.close(S);
    reader.finish().exits(0);
    // The replica stays for a while, and no link feeds it.
    assert_eq!(edge.stat(EDGE).unwrap()["hops"][0]["link"], Value::Null);
    assert_eq!(owner.stat(S).unwrap()["hops"], json!([]));
}

#[test]
fn stats_name_every_mount_on_the_way_to_the_owner() {
    let owner = Daemon::with_http();
    let middle = edge(Transport::Shm, &owner.url(""));
    let far = Daemon::with_config(&format!(
        "[mounts.far]\npath = \"/far\"\nurl = \"{}\"\n",
        middle.url("/edge")
    ));
    owner.append(S, b"contents");
    let _reader = far.reader("/far/s", []);
    let hops = far.stat("/far/s").unwrap()["hops"].clone();
    let mounts: Vec<_> = hops.as_array().unwrap().iter().map(|hop| &hop["mount"]).collect();
    assert_eq!(mounts, ["/far", "/edge"]);
    // The reader of the second daemon is the link of the third.
    assert_eq!((&hops[0]["link"]["readers"], &hops[1]["link"]["readers"]), (&json!(1), &json!(1)));
}

#[test]
fn the_daemon_shows_its_mounts_and_links_and_whether_the_owner_answers() {
    let (mut owner, edge) = owner_and_edge(Transport::Http);
    assert_eq!(info(&owner)["remote_mounts"], json!([]));
    assert!(!owner.get("/metrics").has(200).text().contains("pfs_mount"));
    for stream in ["a", "b"] {
        owner.append(&format!("/streamfs/{stream}"), stream.as_bytes());
    }
    let _readers = ["/edge/a", "/edge/b"].map(|path| edge.reader(path, []));
    let shown = info(&edge);
    let mount = &shown["remote_mounts"][0];
    assert_eq!(
        (&mount["mount"], &mount["owner"]),
        (&json!("/edge"), &json!(owner.url("/streamfs")))
    );
    assert!(mount["round_trip_us"].as_u64().is_some_and(|micros| micros > 0), "{mount}");
    let links = mount["links"].as_array().unwrap();
    let paths: Vec<_> = links.iter().map(|link| &link["path"]).collect();
    assert_eq!(paths, ["/edge/a", "/edge/b"]);
    shows(&edge, ["info"], "2, 0 reconnects, 0 B lost\n");
    let metrics = edge.get("/metrics").has(200).text().to_owned();
    for line in ["pfs_mount_up{mount=\"/edge\"} 1", "pfs_links{mount=\"/edge\",state=\"up\"} 2"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    owner.kill9();
    let down = || edge.log().matches("link lost").count() == 2;
    eventually("the links are lost", down);
    let shown = edge.pfs(["info"]).run().exits(0);
    assert!(
        shown.text().contains("owner       does not answer: the daemon that owns"),
        "{}",
        shown.text()
    );
    assert_eq!(shown.text().matches("    down ").count(), 2, "{}", shown.text());
    let metrics = edge.get("/metrics").has(200).text().to_owned();
    for line in ["pfs_mount_up{mount=\"/edge\"} 0", "pfs_links{mount=\"/edge\",state=\"down\"} 2"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// The output of `pfs info --json`.
fn info(daemon: &Daemon) -> Value {
    let run = daemon.pfs(["info", "--json"]).run().exits(0).quietly();
    serde_json::from_str(run.text()).unwrap()
}

#[test]
fn the_events_of_a_mounted_stream_are_those_of_its_owner() {
    let (mut owner, edge) = owner_and_edge(Transport::Shm);
    owner.append(S, b"contents");
    let mut wire = edge.wire().greeted();
    wire.send(&Request::Watch(EDGE.parse().unwrap()));
    assert_eq!(wire.reply(), Some(Reply::Watching));
    let reader = owner.reader(S, []);
    let subscribed = wire.reply();
    let is_the_reader = |reply: &Option<Reply>| match reply {
        Some(Reply::Happened(StreamEvent::Subscribed { peer, .. })) => {
            peer.pid == Some(reader.pid())
        }
        _ => false,
    };
    assert!(is_the_reader(&subscribed), "{subscribed:?}");
    assert_eq!(wire.reply(), Some(Reply::Happened(StreamEvent::FirstReader)));
    owner.remove(S);
    let mut events = std::iter::from_fn(|| match wire.reply() {
        Some(Reply::Happened(event)) => Some(event),
        _ => None,
    });
    assert!(events.any(|event| event == StreamEvent::Removed));
    reader.finish().exits(7);

    owner.append(S, b"the next");
    let mut wire = edge.wire().greeted();
    wire.send(&Request::Watch(EDGE.parse().unwrap()));
    assert_eq!(wire.reply(), Some(Reply::Watching));
    // A watch does not make this daemon follow the stream.
    assert_eq!(owner.stat(S).unwrap()["readers"], json!([]));
    owner.kill9();
    let told = wire.reply();
    assert!(matches!(&told, Some(Reply::Error { code: ErrorCode::Unreachable, .. })), "{told:?}");
}

#[test]
fn only_who_may_read_a_whole_mount_sees_its_links() {
    let owner = Daemon::with_http();
    owner.append(S, b"contents");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(
        &file,
        "token-for-the-mount read /edge\ntoken-for-one-stream read,write /edge/s\n",
    )
    .unwrap();
    let edge = Daemon::with_http_config(&format!(
        "[auth]\ntoken_file = {file:?}\n[mounts.edge]\npath = \"/edge\"\nurl = \"{}\"\n",
        owner.url("/streamfs")
    ));
    let _reader = edge.reader(EDGE, []);
    for (token, count) in [("token-for-the-mount", 1), ("token-for-one-stream", 0)] {
        let run = edge.pfs_http(["info", "--json"]).env("PFS_TOKEN", token).run().exits(0);
        let info: Value = serde_json::from_str(run.text()).unwrap();
        let mounts = info["remote_mounts"].as_array().unwrap();
        assert_eq!(mounts.len(), count, "{token}: {info}");
        assert!(mounts.iter().all(|mount| mount["links"].as_array().unwrap().len() == 1));
    }
}
