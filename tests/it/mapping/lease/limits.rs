//! Leases where memory and descriptors run out.

use harness::{Daemon, Pfs, Transport, digest, eventually, limit_file_size};

use super::{Fed, MIB, PIECE, holder, other, told_apart};
use crate::mapping::S;

/// Reads all of a stream that is closed.
#[track_caller]
fn read(daemon: &Daemon) -> Vec<u8> {
    daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly().stdout
}

#[test]
fn without_memory_for_another_ring_a_writer_goes_on_without_a_lease() {
    let daemon = Daemon::with_config("[limits]\nmax_memory = \"16MB\"\n");
    daemon
        .pfs(["create", "--reserve", "--ring-buffer-size", "9MB", "--channel-buffer-size", "9MB", S])
        .run()
        .exits(0);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.give(8 * MIB as usize);
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    assert_eq!(holder(&daemon), None);
    let data = writer.finish();
    assert_eq!(digest(&read(&daemon)), digest(&data));
}

#[test]
fn a_daemon_that_can_make_no_memory_files_goes_on_without_leases_and_after_them() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 8 * MIB, 8 * MIB);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    limit_file_size(daemon.pid(), 64 << 10);
    let bytes = other(1, 1000);
    daemon.append(S, bytes.clone());
    for _ in 0..64 {
        writer.give(PIECE);
    }
    eventually("all is there", || daemon.head(S) == (writer.given.len() + bytes.len()) as u64);
    assert_eq!(holder(&daemon), None);
    let data = writer.finish();
    let (own, others) = told_apart(&reader.finish().exits(0).quietly().stdout);
    assert_eq!((digest(&own), digest(&others)), (digest(&data), digest(&bytes)));
}

#[test]
fn a_daemon_without_a_descriptor_to_spare_goes_on_without_leases() {
    // Fewer and fewer, so that it lacks them at each step at least once.
    for limit in (36..72).step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let command = format!(
            "ulimit -n {limit}; exec {} --socket {}",
            harness::binary("pfsd").display(),
            socket.display()
        );
        let mut daemon = Pfs::new("sh").args(["-c", &command]).spawn();
        eventually("it serves or has ended", || harness::served_by(&socket).is_some() || !daemon.runs());
        if !daemon.runs() {
            // It says that this is too few.
            continue;
        }
        let pfs = |args: &[&str]| {
            Pfs::new(harness::binary("pfs")).arg("-q").arg("--socket").arg(&socket).args(args)
        };
        let streams: Vec<String> = (0..6).map(|number| format!("/streamfs/{number}")).collect();
        let mut writers: Vec<Fed> = streams
            .iter()
            .filter_map(|stream| {
                let mut writer = Fed {
                    running: pfs(&["write", "--stream", stream]).stdin_pipe().spawn(),
                    given: Vec::new(),
                };
                // It may be refused where there are too few for one more connection.
                writer.offers(PIECE).then_some(writer)
            })
            .collect();
        for _ in 0..64 {
            writers.retain_mut(|writer| writer.offers(PIECE));
        }
        let mut finished = 0;
        for (writer, stream) in writers.into_iter().zip(&streams) {
            let run = writer.running.finish();
            if run.code == 0 {
                finished += 1;
                let read = pfs(&["cat", "--stream", "--until", "caught-up", stream]).run();
                if read.code == 0 {
                    assert!(writer.given.ends_with(&read.stdout) || read.stdout.is_empty());
                }
            } else {
                // For want of a connection, and never because of a lease.
                assert!(
                    run.stderr.contains("descriptor") || run.stderr.contains("connections"),
                    "{}",
                    run.stderr
                );
            }
        }
        assert!(daemon.runs() && !daemon.stderr().contains("panicked"), "{}", daemon.stderr());
        assert!(finished > 0 || limit < 50, "with {limit} descriptors: {}", daemon.stderr());
    }
}
