//! Tests of the report: field names and arithmetic.

use std::time::Duration;

use super::*;
use crate::json;

/// Report of a writer of 1,000 chunks of 64 bytes and two readers, one of which lost some.
pub(in super::super) fn sample() -> Report {
    let args = BenchArgs {
        readers: 2,
        writers: 1,
        chunk_size: 64,
        size: None,
        transport: None,
        slow: Slow::Drop,
        rate: Some(1000),
        json: false,
    };
    let began = 7_000_000_000;
    let wrote = [Wrote { chunks: 1000, began, ended: began + 500_000_000 }];
    let whole = Read {
        chunks: 1000,
        ended: began + 1_000_000_000,
        latencies: vec![(20_000, 1000)],
        ..Read::default()
    };
    let part = Read {
        chunks: 900,
        ended: began + 2_000_000_000,
        lost_bytes: 6400,
        gaps: 2,
        ..Read::default()
    };
    let usage = |seconds| Usage { cpu: Duration::from_secs(seconds), peak_rss: 16 * 1024 * 1024 };
    let usage = Some((usage(1), usage(3)));
    let results =
        Results { args: &args, transport: "shm", wrote: &wrote, read: &[whole, part], usage };
    Report::new(&results)
}

#[test]
fn a_report_has_stable_names() {
    assert_eq!(
        json::line(&sample()).unwrap(),
        concat!(
            r#"{"readers":2,"writers":1,"chunk_size":64,"transport":"shm","slow":"drop","rate":1000,"#,
            r#""written":{"bytes":64000,"chunks":1000,"seconds":0.5,"mb_per_s":0.128,"chunks_per_s":2000.0},"#,
            r#""delivered":{"bytes":121600,"chunks":1900,"seconds":2.0,"mb_per_s":0.061,"chunks_per_s":950.0},"#,
            r#""lost":{"bytes":6400,"gaps":2},"#,
            r#""latency_us":{"count":1000,"p50":20.0,"p90":20.0,"p99":20.0,"p99_9":20.0,"max":20.0},"#,
            r#""daemon":{"cpu_seconds":2.0,"cpu_seconds_per_gb":31250.0,"peak_rss_bytes":16777216},"#,
            r#""per_writer":[{"bytes":64000,"chunks":1000,"seconds":0.5,"mb_per_s":0.128,"chunks_per_s":2000.0}],"#,
            r#""per_reader":[{"bytes":64000,"chunks":1000,"seconds":1.0,"mb_per_s":0.064,"chunks_per_s":1000.0,"#,
            r#""lost_bytes":0,"gaps":0,"end":"closed","#,
            r#""latency_us":{"count":1000,"p50":20.0,"p90":20.0,"p99":20.0,"p99_9":20.0,"max":20.0}},"#,
            r#"{"bytes":57600,"chunks":900,"seconds":2.0,"mb_per_s":0.029,"chunks_per_s":450.0,"#,
            r#""lost_bytes":6400,"gaps":2,"end":"closed","latency_us":null}]}"#,
            "\n",
        ),
    );
}

#[test]
fn a_reader_that_got_nothing_has_zero_throughput() {
    let throughput = Throughput::new(0, 64, 7, 0);
    assert_eq!(
        (throughput.bytes, throughput.seconds, throughput.mb_per_s, throughput.chunks_per_s),
        (0, 0.0, 0.0, 0.0)
    );
}

#[test]
fn a_disconnected_reader_is_detected() {
    let mut report = sample();
    assert!(!report.has_disconnected());
    report.per_reader[1].end = "disconnected";
    assert!(report.has_disconnected());
}
