//! `stat` for shm readers, which read without the daemon.

use harness::{Daemon, Signal, Transport, eventually, gaps, noise, shares_memory};

use super::S;

const MIB: u64 = 1024 * 1024;

#[test]
fn stat_shows_where_an_shm_reader_is_how_far_behind_and_what_it_lost() {
    let daemon = Daemon::with_buffers(MIB, MIB);
    daemon.append(S, vec![b'x'; 1_000]);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "drop"]);
    let number = |name: &str| daemon.reader_stat(S, reader.pid()).unwrap()[name].as_u64().unwrap();
    eventually("it has read all", || number("position") == 1_000);
    assert!(shares_memory(reader.pid()));
    assert_eq!((number("lag"), number("lost_bytes"), number("lost_chunks")), (0, 0, 0));

    reader.signal(Signal::STOP);
    let data = noise(1, 3 * 1024 * 1024);
    daemon.pfs(["write", "--stream", "--chunk-size", "1024", S]).stdin(&data[..]).run().exits(0);
    // The reader is stopped and cannot update its stats: these values are from before.
    assert_eq!((number("position"), number("lag"), number("lost_bytes")), (1_000, 3 * MIB, 0));
    assert_eq!(daemon.reader_stat(S, reader.pid()).unwrap()["blocking"], false);

    reader.signal(Signal::CONT);
    eventually("it has caught up", || number("lag") == 0);
    assert_eq!(number("position"), daemon.head(S));
    let (bytes, chunks) = (number("lost_bytes"), number("lost_chunks"));
    // Besides the last MiB, the reader got the rest of its first ring buffer: the stream's ring
    // buffer was one page when the reader attached.
    assert!(bytes > 2 * MIB - 4096 && chunks == bytes / 1024, "{bytes} bytes in {chunks} chunks");
    assert_eq!(daemon.stat_number(S, "lost_bytes"), bytes);
    daemon.close(S);
    let told = gaps(&reader.finish().exits(4).stderr);
    assert_eq!(told.iter().map(|gap| gap.to - gap.from).sum::<u64>(), bytes);
    // The losses stay in the stream's stats after the reader has left.
    daemon.has_readers(S, 0);
    assert_eq!(daemon.stat_number(S, "lost_bytes"), bytes);
}

#[test]
fn stat_shows_which_shm_reader_a_writer_waits_for_and_its_continuing_ends_the_wait() {
    for writers_transport in Transport::OF_THE_SOCKET {
        let daemon = Daemon::with_buffers(MIB, MIB);
        daemon.create(S);
        let slow = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
        let others = Transport::OF_THE_SOCKET
            .map(|transport| daemon.reader_on(transport, S, ["--slow", "block"]));
        slow.signal(Signal::STOP);
        let data = noise(2, 4 * 1024 * 1024);
        let writer = daemon
            .pfs_on(writers_transport, ["write", "--stream", "--close", S])
            .stdin(&data[..])
            .spawn();
        eventually("the writer waits for the slow one", || {
            let stat = daemon.stat(S).unwrap();
            stat["writers"].as_array().unwrap().iter().any(|writer| writer["waiting"] == true)
        });
        let blocking = |pid| daemon.reader_stat(S, pid).unwrap()["blocking"].clone();
        eventually("the others have read all there is", || {
            others.iter().all(|other| blocking(other.pid()) == false)
        });
        assert_eq!(blocking(slow.pid()), true);
        slow.signal(Signal::CONT);
        writer.finish().exits(0).quietly();
        for reader in others.into_iter().chain([slow]) {
            assert_eq!(reader.finish().exits(0).stdout, data);
        }
    }
}
