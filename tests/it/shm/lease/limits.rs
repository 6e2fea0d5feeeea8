//! Leases when memory or descriptors run out.

use harness::{Daemon, Pfs, Transport, digest, eventually, limit_file_size};

use tempfile::TempDir;

use super::{Fed, MIB, PIECE, holder, other, told_apart};
use crate::shm::S;

/// Reads all of a closed stream.
#[track_caller]
fn read(daemon: &Daemon) -> Vec<u8> {
    daemon.pfs(["cat", "--stream", S]).run().exits(0).quietly().stdout
}

#[test]
fn without_memory_or_quota_for_another_ring_a_writer_goes_on_without_a_lease() {
    for limit in ["max_memory", "max_memory_per_user"] {
        let daemon = Daemon::with_config(&format!("[limits]\n{limit} = \"16MB\"\n"));
        let size = ["--ring-buffer-size", "9MB", "--channel-buffer-size", "9MB"];
        daemon.pfs(["create", "--reserve"]).args(size).arg(S).run().exits(0);
        let mut writer = Fed::start(&daemon, ["--close"]);
        writer.give(8 * MIB as usize);
        eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
        assert_eq!(holder(&daemon), None, "{limit}");
        let data = writer.finish();
        assert_eq!(digest(&read(&daemon)), digest(&data), "{limit}");
    }
}

/// Starts a daemon over HTTP with this memory quota for each token. Returns it with a function that
/// builds a command with such a token.
fn daemon_with_quota(memory: &str) -> (Daemon, TempDir, impl Fn(&Daemon, &[&str]) -> Pfs) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "one-one-one-one-one\n").unwrap();
    let daemon = Daemon::with_http_config(&format!(
        "[auth]\ntoken_file = {token:?}\n[limits]\nmax_memory_per_token = \"{memory}\"\n"
    ));
    (daemon, folder, move |daemon, args| {
        daemon.pfs_http([]).arg("--token-file").arg(&token).args(args)
    })
}

#[test]
fn the_ring_of_a_lease_counts_towards_the_quota_of_the_stream_s_creator() {
    let (daemon, _folder, pfs) = daemon_with_quota("16MB");
    let size = ["--ring-buffer-size", "8MB", "--channel-buffer-size", "8MB"];
    pfs(&daemon, &["create", S]).args(size).run().exits(0);
    // A writer of a user without a quota.
    let mut writer = Fed::start(&daemon, []);
    writer.gets_a_lease(&daemon);
    writer.give(16 * MIB as usize);
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    let pid = u64::from(writer.running.pid());
    assert_eq!(holder(&daemon), Some(pid));
    // Every ring buffer takes a quarter more memory than its capacity, including those
    // created here.
    let reserve = |path: &str, size: &str| {
        let size = ["--ring-buffer-size", size, "--channel-buffer-size", size];
        pfs(&daemon, &["create", "--reserve", path]).args(size).run()
    };
    let refused = "of the 16777216 bytes that the quota allows are taken";
    reserve("/streamfs/large", "5MB").exits(1).says(refused).says("max_memory_per_token");
    reserve("/streamfs/2", "4MB").exits(0);
    reserve("/streamfs/3", "1MB").exits(1).says(refused);
    // The holder does not notice.
    writer.give(16 * MIB as usize);
    eventually("all is there", || daemon.head(S) == writer.given.len() as u64);
    assert_eq!(holder(&daemon), Some(pid));
    daemon.remove(S);
    writer.running.finish_with_input().exits(1).says("the stream was removed");
    eventually("the ring is given back", || reserve("/streamfs/3", "8MB").code == 0);
}

#[test]
fn a_stream_whose_lease_ends_while_the_quota_is_full_takes_appends_as_before() {
    // Almost none of the quota is left, or the quota is lowered below the memory of the stream.
    for is_lowered in [false, true] {
        let config = |memory: &str| format!("[limits]\nmax_memory_per_user = \"{memory}\"\n");
        let daemon = Daemon::with_config(&config("16MB"));
        daemon.create_with_buffers(S, 8 * MIB, 8 * MIB);
        let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
        let mut writer = Fed::start(&daemon, ["--close"]);
        writer.gets_a_lease(&daemon);
        if is_lowered {
            daemon.reload(&config("1MB")).exits(0);
        } else {
            let mut size = 4 * MIB;
            for number in 0.. {
                let (path, size_of) = (format!("/streamfs/{number}"), size.to_string());
                let size_of = ["--ring-buffer-size", &size_of, "--channel-buffer-size", &size_of];
                if daemon.pfs(["create", "--reserve", &path]).args(size_of).run().code != 0 {
                    size /= 2;
                }
                if size < 64 {
                    break;
                }
            }
        }
        assert!(holder(&daemon).is_some());
        let bytes = other(1, 1000);
        daemon.append(S, bytes.clone());
        writer.give(16 * MIB as usize);
        eventually("all is there", || daemon.head(S) == (writer.given.len() + bytes.len()) as u64);
        let data = writer.finish();
        let (own, others) = told_apart(&reader.finish().exits(0).quietly().stdout);
        assert_eq!(
            (digest(&own), digest(&others)),
            (digest(&data), digest(&bytes)),
            "{is_lowered}"
        );
    }
}

#[test]
fn a_daemon_that_cannot_create_memory_files_goes_on_without_and_after_leases() {
    let daemon = Daemon::start();
    daemon.create_with_buffers(S, 8 * MIB, 8 * MIB);
    let reader = daemon.reader_on(Transport::Shm, S, ["--slow", "block"]);
    let mut writer = Fed::start(&daemon, ["--close"]);
    writer.gets_a_lease(&daemon);
    limit_file_size(daemon.pid(), 64 * 1024);
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
    // Tries many limits, so that descriptors run out at each step of a run at least once.
    for limit in (36..72).step_by(3) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let command = format!(
            "ulimit -n {limit}; exec {} --socket {}",
            harness::binary("pfsd").display(),
            socket.display()
        );
        let mut daemon = Pfs::new("sh").args(["-c", &command]).spawn();
        eventually("it serves or has ended", || {
            harness::served_by(&socket).is_some() || !daemon.runs()
        });
        if !daemon.runs() {
            // The daemon reports that the limit is too low.
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
                // The writer may be refused if no descriptor is left for another connection.
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
                // The run failed for lack of a connection, never because of a lease.
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
