//! `pfs bench`: its report is correct, and it leaves nothing behind.

use harness::{Daemon, Finished, Running, Signal, Transport, alive, eventually};
use serde_json::Value;

/// Parses the JSON report of a run.
#[track_caller]
fn report(run: &Finished) -> Value {
    assert_eq!(run.text().lines().count(), 1, "{}", run.text());
    serde_json::from_str(run.text()).unwrap_or_else(|e| panic!("{e} in {:?}", run.text()))
}

/// Starts a long run and waits until it is in progress.
fn under_way(daemon: &Daemon) -> Running {
    let args = [
        "bench",
        "--readers",
        "2",
        "--writers",
        "2",
        "--chunk-size",
        "64",
        "--rate",
        "100",
        "--size",
        "1MB",
    ];
    let run = daemon.pfs(args).spawn();
    let stream = format!("/streamfs/pfs-bench-{}", run.pid());
    eventually("it is under way", || daemon.head(&stream) > 0);
    run
}

#[test]
fn a_run_accounts_for_every_byte_over_shm_and_unix_and_removes_its_stream() {
    let daemon = Daemon::start();
    for transport in ["shm", "unix"] {
        let args = [
            "bench",
            "--json",
            "--transport",
            transport,
            "--readers",
            "3",
            "--writers",
            "2",
            "--size",
            "20MB",
        ];
        let run = daemon.pfs_on(Transport::Shm, args).run().exits(0).quietly();
        let report = report(&run);
        let size = 20 * 1024 * 1024;
        assert_eq!(report["transport"], transport);
        assert_eq!(
            (&report["written"]["bytes"], &report["delivered"]["bytes"]),
            (&size.into(), &(3 * size).into())
        );
        assert_eq!(
            (&report["written"]["chunks"], &report["lost"]["bytes"]),
            (&320.into(), &0.into())
        );
        for (all, each) in [("per_writer", "written"), ("per_reader", "delivered")] {
            let bytes =
                report[all].as_array().unwrap().iter().map(|one| one["bytes"].as_u64().unwrap());
            assert_eq!(report[each]["bytes"], bytes.sum::<u64>(), "{all}");
        }
        assert!(report["delivered"]["mb_per_s"].as_f64().unwrap() > 0.0);
        assert!(report["daemon"]["peak_rss_bytes"].as_u64().unwrap() > 0);
        assert_eq!(report["latency_us"], Value::Null);
        assert!(daemon.streams().is_empty(), "{transport}");
    }
}

#[test]
fn with_a_rate_the_latency_of_every_chunk_at_every_reader_is_counted() {
    let daemon = Daemon::start();
    let args = [
        "bench",
        "--json",
        "--readers",
        "2",
        "--chunk-size",
        "64",
        "--size",
        "6400",
        "--rate",
        "500",
    ];
    let report = report(&daemon.pfs(args).run().exits(0));
    let latency = &report["latency_us"];
    assert_eq!(latency["count"], 200);
    let values = ["p50", "p90", "p99", "p99_9", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(values[0] > 0.0 && values.is_sorted(), "{latency}");
    // 100 chunks at 500 per second.
    let seconds = report["written"]["seconds"].as_f64().unwrap();
    assert!(seconds > 0.19, "{report}");
}

#[test]
fn the_report_for_people_has_a_line_for_each_writer_and_reader() {
    let daemon = Daemon::start();
    let run = daemon
        .pfs(["bench", "--readers", "2", "--size", "1MB", "--rate", "1000"])
        .run()
        .exits(0)
        .quietly();
    for part in
        ["writer 1", "reader 1", "reader 2", "all readers", "MB/S", "LOST", "P99.9", "daemon: "]
    {
        assert!(run.text().contains(part), "nothing of {part:?} in {}", run.text());
    }
}

#[test]
fn data_that_readers_lost_is_in_the_report_and_in_the_exit_code() {
    let daemon = Daemon::with_buffers(4096, 2048);
    let args = [
        "bench",
        "--json",
        "--slow",
        "drop",
        "--readers",
        "4",
        "--chunk-size",
        "64",
        "--size",
        "8MB",
    ];
    let report = report(&daemon.pfs(args).run().exits(4));
    assert!(report["lost"]["gaps"].as_u64().unwrap() > 0);
    for reader in report["per_reader"].as_array().unwrap() {
        let number = |name: &str| reader[name].as_u64().unwrap();
        assert_eq!(number("bytes") + number("lost_bytes"), 8 * 1024 * 1024);
    }
}

#[test]
fn a_run_that_is_ended_by_a_signal_leaves_no_stream_and_no_process() {
    let daemon = Daemon::start();
    for (signal, code) in [(Signal::INT, 130), (Signal::KILL, 137)] {
        let run = under_way(&daemon);
        let stat = daemon.stat(&daemon.streams()[0]).unwrap();
        let [readers, writers] = ["readers", "writers"].map(|name| stat[name].as_array().unwrap());
        let pids: Vec<_> =
            readers.iter().chain(writers).map(|one| one["pid"].as_u64().unwrap()).collect();
        assert_eq!(pids.len(), 4);
        run.signal(signal);
        run.finish().exits(code);
        eventually("its stream is gone", || daemon.streams().is_empty());
        eventually("its processes are gone", || {
            !pids.iter().any(|pid| alive(u32::try_from(*pid).unwrap()))
        });
    }
}

#[test]
fn a_run_whose_daemon_goes_away_ends_with_5() {
    let mut daemon = Daemon::start();
    let run = under_way(&daemon);
    daemon.kill9();
    run.finish().exits(5).says("the daemon went away");
}

#[test]
fn an_impossible_measurement_is_refused_and_leaves_no_stream() {
    let daemon = Daemon::with_buffers(1024 * 1024, 1 << 16);
    daemon.pfs(["bench", "--chunk-size", "40"]).run().exits(2).says("at least 41 bytes");
    daemon.pfs(["bench", "--chunk-size", "65537"]).run().exits(2).says("at most 64.0 KiB");
    daemon
        .pfs_on(Transport::Unix, ["bench", "--transport", "shm"])
        .run()
        .exits(2)
        .says("cannot be used with --no-shm");
    assert!(daemon.streams().is_empty());
}
