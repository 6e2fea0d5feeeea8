//! Shm readers that write arbitrary data on their own page: they can corrupt their own stats and
//! nothing else.

use std::{
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use harness::{Daemon, Transport, digest, eventually, noise};
use pfs_proto::{ErrorCode, ReadOptions, Reply, Request, SlowPolicy};
use rustix::io::pwrite;

use super::{EndsAtDrop, Handed, S, handed, handed_over, is_unharmed};

const MIB: usize = 1024 * 1024;
const OTHER: &str = "/streamfs/other";

/// Fills the page with noise, zeros or ones, repeatedly, and sends `MadeRoom` each time.
fn scribble(mut reader: Handed, seed: u64, enough: &AtomicBool) {
    for round in 0_u64.. {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        let bytes = match round % 4 {
            0 => vec![0; 4096],
            1 => vec![0xff; 4096],
            _ => noise(seed ^ round, 4096),
        };
        pwrite(reader.page.as_fd(), &bytes, 0).unwrap();
        reader.wire.send(&Request::MadeRoom);
    }
}

#[test]
fn scribbled_stats_disturb_nobody_else() {
    let mut daemon = Daemon::with_buffers(256 * 1024, 256 * 1024);
    let data = noise(1, 12 * MIB);
    let mut honest = Vec::new();
    for stream in [S, OTHER] {
        daemon.create(stream);
        for transport in Transport::OF_THE_SOCKET {
            let mut reader = daemon.piped_reader_on(transport, stream, ["--slow", "block"]);
            let got = reader.digest_stdout();
            honest.push((reader, got));
        }
    }
    let before = daemon.memory();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        // The threads must end even if the test fails, because the scope waits for them.
        let _end = EndsAtDrop(&enough);
        for (seed, policy) in
            [SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect].into_iter().enumerate()
        {
            let reader = handed(&daemon, S, ReadOptions { policy, ..ReadOptions::default() });
            let enough = &enough;
            scope.spawn(move || scribble(reader, seed as u64, enough));
        }
        let write = |transport, stream| {
            daemon
                .pfs_on(transport, ["write", "--stream", "--close", stream])
                .stdin(&data[..])
                .spawn()
        };
        let writers = [write(Transport::Shm, S), write(Transport::Unix, OTHER)];
        for _ in 0..20 {
            // All numbers can be shown, whatever the reader claims.
            let stat = daemon.stat(S).unwrap();
            let head = stat["head"].as_u64().unwrap();
            assert!(stat["lost_bytes"].as_u64().unwrap() <= 3 * head, "{stat}");
            for reader in stat["readers"].as_array().unwrap() {
                for number in ["position", "lag", "lost_bytes", "lost_chunks"] {
                    assert!(reader[number].as_u64().unwrap() <= head, "{number}: {stat}");
                }
            }
            daemon.pfs(["stat", S]).run().exits(0).quietly();
            for (reader, _) in &honest[..2] {
                if let Some(stats) = daemon.reader_stat(S, reader.pid()) {
                    assert_eq!(
                        (&stats["lost_bytes"], &stats["lost_chunks"]),
                        (&0.into(), &0.into())
                    );
                }
            }
        }
        for writer in writers {
            writer.finish().exits(0).quietly();
        }
    });
    for (reader, got) in honest {
        reader.finish().exits(0).quietly();
        assert_eq!(got.join().unwrap(), digest(&data));
    }
    is_unharmed(&mut daemon, before);
}

#[test]
fn a_reader_that_claims_to_be_far_ahead_takes_no_byte_from_a_block_reader() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let honest = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    honest.signal(harness::Signal::STOP);
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let mut liar = handed(&daemon, S, options);
    pwrite(&liar.page, &[0xff; 4096], 0).unwrap();
    let data = noise(2, MIB);
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin(&data[..]).spawn();
    for _ in 0..100 {
        liar.wire.send(&Request::MadeRoom);
    }
    eventually("the writer waits for the honest one", || {
        daemon.reader_stat(S, honest.pid()).unwrap()["blocking"] == true
    });
    assert!(writer.runs() && daemon.stat_number(S, "tail") == 0);
    honest.signal(harness::Signal::CONT);
    writer.finish().exits(0);
    assert_eq!(digest(&honest.finish().exits(0).stdout), digest(&data));
}

#[test]
fn a_writer_waits_for_a_reader_that_claims_to_be_at_the_start_only_until_it_goes() {
    let daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    daemon.create(S);
    let options = ReadOptions { policy: SlowPolicy::Block, ..ReadOptions::default() };
    let liar = handed(&daemon, S, options);
    let writer = daemon.pfs(["write", "--stream", S]).stdin(noise(3, MIB)).spawn();
    eventually("the writer waits", || daemon.stat(S).unwrap()["writers"][0]["waiting"] == true);
    drop(liar);
    writer.finish().exits(0).quietly();
}

#[test]
fn an_shm_reader_that_sends_any_other_request_is_refused() {
    let daemon = Daemon::start();
    daemon.create(S);
    let append = Request::Append(bytes::Bytes::from_static(b"x"));
    for request in [append, Request::Info, Request::Finish { close: true }, Request::Follow] {
        let mut reader = handed(&daemon, S, ReadOptions::default());
        reader.wire.send(&request);
        assert_eq!(reader.wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
    }
    // Without shared memory, these requests are invalid.
    for request in [Request::MadeRoom, Request::CannotMap, Request::Follow] {
        let mut wire = daemon.wire().greeted();
        wire.send(&request);
        assert_eq!(wire.refusal(), Some(ErrorCode::Protocol), "{request:?}");
    }
    assert_eq!(daemon.head(S), 0);
}

#[test]
fn a_reader_that_cannot_map_is_served_over_its_connection_whatever_it_did_to_its_page() {
    let daemon = Daemon::start();
    daemon.pfs(["write", "--close", S]).stdin("so far").run().exits(0);
    let mut reader = handed(&daemon, S, ReadOptions::default());
    pwrite(&reader.page, &noise(4, 4096), 0).unwrap();
    reader.wire.send(&Request::CannotMap);
    assert!(matches!(reader.wire.reply(), Some(Reply::Data(bytes)) if bytes == "so far"));
    assert!(matches!(reader.wire.reply(), Some(Reply::End { offset: 6, .. })));
    assert_eq!(reader.wire.reply(), None);
}

/// The page says where the reader continues. The daemon may end such a reader, or send it any bytes
/// that the stream has held.
#[test]
fn a_reader_that_cannot_map_the_next_ring_harms_nobody_whatever_it_wrote_to_its_page() {
    let mut daemon = Daemon::with_buffers(64 * 1024, 64 * 1024);
    let before = daemon.memory();
    let (first, data) = (noise(5, 100), noise(6, 50_000));
    for round in 0_u64..60 {
        daemon.pfs(["create", "--replace", S]).run().exits(0);
        let honest = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
        daemon.append(S, first.clone());
        let policy = [SlowPolicy::Drop, SlowPolicy::Disconnect][(round % 2) as usize];
        let options = ReadOptions { policy, ..ReadOptions::default() };
        let mut liar = handed_over(daemon.wire().greeted_to_follow(), S, options);
        // Offset, number of the next chunk, and losses: inside the stream, beyond it, or arbitrary.
        let claims = [
            0,
            1,
            99,
            100,
            101,
            1 << 62,
            u64::MAX,
            u64::from_le_bytes(*noise(round, 8).first_chunk().unwrap()),
        ];
        let claim = |word: u64| claims[((round + 1) * (2 * word + 3) % 8) as usize].to_ne_bytes();
        pwrite(&liar.page, &[claim(0), claim(1), claim(2), claim(3)].concat(), 0).unwrap();
        daemon.pfs(["write", "--stream", "--close", S]).stdin(&data[..]).run().exits(0).quietly();
        liar.wire.send(&Request::Follow);
        assert!(matches!(liar.wire.reply(), Some(Reply::Ring { .. })));
        liar.wire.send(&Request::CannotMap);
        while liar.wire.reply().is_some() {}
        assert_eq!(digest(&honest.finish().exits(0).stdout), digest(&[&first[..], &data].concat()));
    }
    is_unharmed(&mut daemon, before);
}
