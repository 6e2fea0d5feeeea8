//! Report of a measurement as text for people.

use std::fmt::Write;

use super::report::{Report, Throughput};
use crate::{
    size::{count, size},
    table::{Align, Table},
};

/// Formats a headline, a table with a line per writer and reader, the latency, and the resources
/// that the daemon used.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!(
        "{} and {}, {} in chunks of {}, {}\n\n",
        count(report.writers, "writer"),
        count(report.readers, "reader"),
        size(report.written.bytes),
        size(report.chunk_size),
        report.transport
    );
    text.push_str(&throughput(report).render(""));
    if let Some(latency) = &report.latency_us {
        let mut table = Table::new(&[
            ("LATENCY", Align::Left),
            ("P50", Align::Right),
            ("P90", Align::Right),
            ("P99", Align::Right),
            ("P99.9", Align::Right),
            ("MAX", Align::Right),
        ]);
        let values = [latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max];
        let cells = values.map(|micros| format!("{micros:.1}"));
        table.row(std::iter::once("microseconds".to_owned()).chain(cells));
        text.push('\n');
        text.push_str(&table.render(""));
    }
    if let Some(daemon) = &report.daemon {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\ndaemon: {:.2} s of CPU time, {:.3} s per GB written; at most {} of memory since its start",
            daemon.cpu_seconds,
            daemon.cpu_seconds_per_gb,
            size(daemon.peak_rss_bytes)
        );
    }
    text
}

fn throughput(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("MB/S", Align::Right),
        ("CHUNKS/S", Align::Right),
        ("SECONDS", Align::Right),
        ("DATA", Align::Right),
        ("LOST", Align::Right),
        ("GAPS", Align::Right),
        ("", Align::Left),
    ]);
    let mut row = |who: String, throughput: &Throughput, lost: Option<(u64, u64)>, note: &str| {
        let (bytes, gaps) =
            lost.map_or_else(Default::default, |(bytes, gaps)| (size(bytes), gaps.to_string()));
        table.row([
            who,
            megabytes(throughput.mb_per_s),
            format!("{:.0}", throughput.chunks_per_s),
            format!("{:.3}", throughput.seconds),
            size(throughput.bytes),
            bytes,
            gaps,
            note.to_owned(),
        ]);
    };
    for (number, writer) in (1..).zip(&report.per_writer) {
        row(format!("writer {number}"), writer, None, "");
    }
    if report.writers > 1 {
        row("all writers".to_owned(), &report.written, None, "");
    }
    for (number, reader) in (1..).zip(&report.per_reader) {
        let note = if reader.end == "disconnected" { "disconnected" } else { "" };
        row(format!("reader {number}"), &reader.got, Some((reader.lost_bytes, reader.gaps)), note);
    }
    if report.readers > 1 {
        row(
            "all readers".to_owned(),
            &report.delivered,
            Some((report.lost.bytes, report.lost.gaps)),
            "",
        );
    }
    table
}

/// Formats MB/s, with decimals if below 10.
fn megabytes(value: f64) -> String {
    if value < 10.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::commands::bench::report::tests::sample;

    #[test]
    fn every_writer_and_reader_has_a_line() {
        assert_eq!(
            strip_str(&text(&sample())).to_string(),
            "\
1 writer and 2 readers, 62.5 KiB in chunks of 64 B, shm

CLIENT        MB/S  CHUNKS/S  SECONDS       DATA     LOST  GAPS
writer 1     0.128      2000    0.500   62.5 KiB
reader 1     0.064      1000    1.000   62.5 KiB      0 B     0
reader 2     0.029       450    2.000   56.2 KiB  6.2 KiB     2
all readers  0.061       950    2.000  118.8 KiB  6.2 KiB     2

LATENCY        P50   P90   P99  P99.9   MAX
microseconds  20.0  20.0  20.0   20.0  20.0

daemon: 2.00 s of CPU time, 31250.000 s per GB written; at most 16.0 MiB of memory since its start
"
        );
    }
}
