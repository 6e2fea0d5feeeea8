//! Clients that answer an offer or use a lease in ways that no client of ours does.

use bytes::Bytes;
use harness::{Daemon, Transport, digest, eventually};
use pfs_proto::{ErrorCode, ReadOptions, Reply, Request};

use super::{Fed, Held, MIB, PIECE, held, holder, offered, other, own, writing};
use crate::shm::{S, handed_over, is_unharmed};

const OTHER: &str = "/streamfs/other";

#[test]
fn a_client_without_the_leasing_capability_is_offered_no_lease() {
    let daemon = Daemon::start();
    daemon.create(S);
    let mut wire = writing(daemon.wire().greeted_to_follow(), S);
    for number in 1..=64 {
        wire.send(&Request::Append(Bytes::from(own(number, PIECE))));
        let reply = wire.reply();
        assert!(matches!(reply, Some(Reply::Ack { chunks, .. }) if chunks == number), "{reply:?}");
    }
    assert_eq!(holder(&daemon), None);
}

#[test]
fn a_client_that_never_answers_the_offer_goes_on_as_before_and_its_memory_is_given_back() {
    let mut daemon = Daemon::start();
    let before = (daemon.memory(), daemon.shared_memory());
    for round in 0..8 {
        daemon.create_with_buffers(S, 16 * MIB, 16 * MIB);
        let mut client = offered(&daemon, S);
        for number in 0..32 {
            let bytes = own(number, PIECE);
            client.wire.send(&Request::Append(Bytes::from(bytes.clone())));
            client.appended.extend(bytes);
        }
        client.wire.send(&Request::Finish { close: true });
        // Half of the clients only disconnect, which counts as a death.
        if round % 2 == 0 {
            assert_eq!(client.wire.refusal(), None);
            let read = daemon.pfs(["cat", "--stream", S]).run().exits(0);
            assert_eq!(digest(&read.stdout), digest(&client.appended));
        }
        drop(client);
        daemon.remove(S);
    }
    daemon.has_no_other_connection();
    eventually("the memory is given back", || daemon.shared_memory() <= before.1 + MIB);
    is_unharmed(&mut daemon, before.0);
}

#[test]
fn a_client_that_cannot_map_the_offer_goes_on_as_before_and_gets_no_further_offer() {
    let daemon = Daemon::start();
    let mut client = offered(&daemon, S);
    client.wire.send(&Request::CannotMap);
    for number in 0..64 {
        let bytes = own(number, PIECE);
        client.wire.send(&Request::Append(Bytes::from(bytes.clone())));
        client.appended.extend(bytes);
        let reply = client.wire.reply();
        assert!(matches!(reply, Some(Reply::Ack { .. })), "{reply:?}");
    }
    assert_eq!(holder(&daemon), None);
    assert_eq!(daemon.head(S), client.appended.len() as u64);
    client.wire.send(&Request::CannotMap);
    assert_eq!(client.wire.refusal(), Some(ErrorCode::Protocol));
}

#[test]
fn an_answer_without_an_offer_is_a_protocol_error() {
    let daemon = Daemon::start();
    daemon.create(S);
    for request in [Request::LeaseReady, Request::CannotMap] {
        let mut wire = writing(daemon.wire().greeted_to_hold(), S);
        wire.send(&request);
        assert_eq!(wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
    }
    // Once the client holds the lease, no offer is pending.
    for request in
        [Request::LeaseReady, Request::CannotMap, Request::Follow, Request::MadeRoom, Request::Info]
    {
        let mut client = held(&daemon, S);
        client.append(1000);
        let head = daemon.head(S);
        client.wire.send(&request);
        assert_eq!(client.wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
        assert_eq!((daemon.head(S), holder(&daemon)), (head, None));
        daemon.remove(S);
        daemon.create(S);
    }
    for request in
        [Request::LeaseReady, Request::Published, Request::NeedsRoom { up_to: 1 }, Request::Flush]
    {
        let mut wire = daemon.wire().greeted_to_hold();
        wire.send(&request);
        assert_eq!(wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
        let mut wire = daemon.wire().greeted_to_hold();
        wire.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
        assert!(matches!(wire.reply(), Some(Reply::Shm(_))));
        wire.send(&request);
        assert_eq!(wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
    }
}

#[test]
fn an_offer_that_is_answered_too_late_gives_no_lease() {
    for (number, what) in
        ["somebody who cannot follow reads", "somebody else writes"].into_iter().enumerate()
    {
        let daemon = Daemon::start();
        daemon.create_with_buffers(S, 16 * MIB, 16 * MIB);
        let mut client = offered(&daemon, S);
        let reader = (number == 0)
            .then(|| handed_over(daemon.wire().greeted_to_share(), S, ReadOptions::default()));
        let second = (number == 1).then(|| daemon.appender(S));
        client.wire.send(&Request::LeaseReady);
        assert_eq!(client.wire.reply(), Some(Reply::LeaseEnded { chunks: 0, offset: 0 }), "{what}");
        client.wire.send(&Request::Append(Bytes::from("x")));
        assert!(matches!(client.wire.reply(), Some(Reply::Ack { .. })), "{what}");
        assert_eq!(daemon.head(S), client.appended.len() as u64 + 1, "{what}");
        drop((reader, second));
    }
}

#[test]
fn what_a_holder_sends_during_its_lease_ends_it_and_comes_after_what_it_published() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 16 * MIB, 16 * MIB);
    let mut client = held(&daemon, S);
    client.append(5000);
    let last = other(1, 3000);
    client.wire.send(&Request::Append(Bytes::from(last.clone())));
    let head = (client.appended.len() + last.len()) as u64;
    eventually("all is there", || daemon.head(S) == head);
    assert_eq!(holder(&daemon), None);
    let ended = std::iter::from_fn(|| client.wire.reply())
        .find(|reply| matches!(reply, Reply::LeaseEnded { .. }));
    let Some(Reply::LeaseEnded { chunks: 1, offset }) = ended else { panic!("{ended:?}") };
    assert_eq!(offset, head - last.len() as u64);
    client.wire.send(&Request::Finish { close: false });
    assert_eq!(client.wire.refusal(), None);
    let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0);
    assert_eq!(digest(&read.stdout), digest(&[&client.appended[..], &last].concat()));
}

#[test]
fn a_lease_under_which_nothing_was_appended_ends_without_an_offset() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 16 * MIB, 16 * MIB);
    let mut client = offered(&daemon, S);
    let own = client.appended.len() as u64;
    daemon.append(S, other(1, 1000));
    client.wire.send(&Request::LeaseReady);
    assert!(
        matches!(client.wire.reply(), Some(Reply::Leased(start)) if start.head.1 == own + 1000)
    );
    daemon.append(S, other(2, 1000));
    assert_eq!(client.wire.reply(), Some(Reply::LeaseEnded { chunks: 0, offset: 0 }));
    // Acknowledged offsets do not decrease.
    client.wire.send(&Request::Flush);
    assert!(matches!(client.wire.reply(), Some(Reply::Ack { offset, .. }) if offset == own));
}

#[test]
fn an_idle_command_accepts_the_lease_that_it_was_offered() {
    let daemon = Daemon::start();
    let mut writer = Fed::start(&daemon, []);
    // The daemon starts to count here, and makes the offer after the last byte.
    writer.give(40_000);
    eventually("the first bytes are there", || daemon.head(S) == 40_000);
    writer.give(MIB as usize);
    let pid = u64::from(writer.running.pid());
    eventually("it has a lease", || holder(&daemon) == Some(pid));
    writer.finish();
}

/// Like [`held`], over a connection that has a writer already.
#[track_caller]
fn offered_on(wire: harness::Wire) -> Held {
    super::Offered::on(wire).hold()
}

#[test]
fn a_holder_that_sends_anything_in_any_order_harms_nobody() {
    let mut daemon = Transport::Shm.daemon_with_http();
    daemon.create(OTHER);
    let pairs =
        Transport::ALL.map(|transport| daemon.reader_on(transport, OTHER, ["--slow", "block"]));
    let mut honest = Fed::new(daemon.pfs(["-q", "write", "--stream", "--close", OTHER]));
    let before = daemon.memory();
    for round in 0_u64..120 {
        daemon
            .pfs([
                "create",
                "--replace",
                "--ring-buffer-size",
                "1MB",
                "--channel-buffer-size",
                "1MB",
                S,
            ])
            .run()
            .exits(0);
        let mut client = held(&daemon, S);
        let mut random = harness::Random::new(round);
        for _ in 0..random.below(20) {
            let request = match random.below(8) {
                0 => Request::Append(Bytes::from(own(round, random.below(PIECE as u64) as usize))),
                1 => Request::AppendPart(Bytes::from(own(round, 100))),
                2 => Request::NeedsRoom { up_to: random.of([0, 1, 1000, 1 << 62, u64::MAX]) },
                3 => Request::Flush,
                4 | 5 => Request::Published,
                6 => Request::Heartbeat,
                _ => {
                    let pushed = client.holder.try_push(own(round, 100));
                    if pushed.and_then(|()| client.holder.publish()).is_err() {
                        continue;
                    }
                    Request::Published
                }
            };
            client.wire.send(&request);
        }
        // The client may have ended its lease, or the daemon the connection.
        let stat = daemon.stat(S).unwrap();
        assert!(stat["head"].as_u64() >= Some(client.appended.len() as u64), "{stat}");
        if round % 3 == 0 {
            client.wire.send(&Request::Finish { close: false });
            while client.wire.reply().is_some() {}
        }
        drop(client);
        honest.give(1000);
        let given = honest.given.len() as u64;
        eventually("the other stream goes on", || daemon.head(OTHER) == given);
        eventually("its writer has gone", || {
            daemon.stat(S).unwrap()["writers"] == serde_json::json!([])
        });
    }
    daemon.remove(S);
    let data = honest.finish();
    for reader in pairs {
        assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
    }
    is_unharmed(&mut daemon, before);
}

#[test]
fn a_block_reader_that_has_read_all_is_kept_whatever_room_a_holder_asks_for() {
    let daemon = Daemon::with_config("[limits]\nmax_block_time = \"20ms\"\n");
    daemon.create_with_buffers(S, MIB, MIB);
    for transport in Transport::OF_THE_SOCKET {
        let wire = writing(daemon.wire().greeted_to_hold(), S);
        let reader = daemon.reader_on(transport, S, ["--new", "--slow", "block"]);
        let mut client = offered_on(wire);
        client.append(1000);
        let all = client.appended.len() as u64;
        eventually("it has read all", || reader.stdout_len() == all);
        client.wire.send(&Request::NeedsRoom { up_to: u64::MAX });
        assert_eq!(client.wire.reply(), Some(Reply::Room));
        let stat = daemon.reader_stat(S, reader.pid()).unwrap();
        assert_eq!((&stat["policy"], &stat["was_block"]), (&"block".into(), &false.into()));
    }
}

#[test]
fn a_holder_that_sends_endless_requests_and_reads_no_reply_costs_no_memory() {
    const TIMES: usize = 1_000_000;
    let mut daemon = Daemon::start();
    daemon.create_with_buffers(S, MIB, MIB);
    let mut client = held(&daemon, S);
    let before = daemon.memory();
    let requests = [Request::Flush, Request::NeedsRoom { up_to: 0 }, Request::Published];
    for request in requests {
        let mut frame = bytes::BytesMut::new();
        request.encode(&mut frame);
        let frames = frame.repeat(TIMES / 100);
        // The daemon stops reading while the client takes no replies, so sending may fail, which
        // is allowed.
        let _sent = (0..100).take_while(|_| client.wire.offer_bytes(&frames)).count();
    }
    let after = daemon.memory();
    assert!(after < before + (4 * 1024 * 1024), "the daemon grew from {before} to {after}");
    assert!(daemon.runs());
}
