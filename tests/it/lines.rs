//! `pfs write --lines`: lines stay whole, whatever other writers append and whatever is lost.

use std::{collections::HashMap, io::Read as _};

use harness::{Daemon, Running, Transport, digest, eventually, gaps};

const S: &str = "/streamfs/s";
const WRITERS: usize = 8;

harness::per_transport! {
    lines_of_eight_writers_arrive_whole_once_in_order_and_are_the_same_for_every_reader,
    a_gap_never_splits_a_line,
    a_line_longer_than_64_kib_is_one_chunk,
}

/// Line `i` of a writer: `WRITER I LENGTH xxx…`, so that damage is visible.
fn line(writer: usize, i: usize) -> String {
    let len = (i * 7919 + writer * 104_729) % 300;
    format!("{writer} {i} {len} {}\n", "x".repeat(len))
}

fn text(writer: usize, lines: usize) -> String {
    (0..lines).map(|i| line(writer, i)).collect()
}

/// Returns the line numbers of each writer, in the order of `output`. Panics on a line that is
/// not whole.
fn by_writer(output: &[u8]) -> HashMap<usize, Vec<usize>> {
    let mut numbers: HashMap<usize, Vec<usize>> = HashMap::new();
    for got in std::str::from_utf8(output).unwrap().split_inclusive('\n') {
        let mut words = got.split(' ').map_while(|word| word.parse().ok());
        let (writer, i) =
            words.next().zip(words.next()).unwrap_or_else(|| panic!("not a line of ours: {got:?}"));
        assert_eq!(got, line(writer, i), "not a whole line");
        numbers.entry(writer).or_default().push(i);
    }
    numbers
}

fn lines_of_eight_writers_arrive_whole_once_in_order_and_are_the_same_for_every_reader(
    transport: Transport,
) {
    const LINES: usize = 5_000;
    let daemon = transport.daemon();
    let start = |_| daemon.pfs(["cat", "--stream", "--slow", "block", S]).spawn();
    let readers: Vec<Running> = (0..3).map(start).collect();
    let writers: Vec<Running> = (0..WRITERS)
        .map(|writer| {
            let write = daemon.pfs(["write", "--lines", "--wait-readers", "3", S]);
            write.stdin(text(writer, LINES)).spawn()
        })
        .collect();
    for writer in writers {
        writer.finish().exits(0);
    }
    daemon.close(S);
    let outputs: Vec<_> =
        readers.into_iter().map(|reader| reader.finish().exits(0).stdout).collect();
    let numbers = by_writer(&outputs[0]);
    let all: Vec<usize> = (0..LINES).collect();
    for writer in 0..WRITERS {
        assert_eq!(numbers[&writer], all, "lines of writer {writer}");
    }
    for other in &outputs[1..] {
        assert_eq!(digest(other), digest(&outputs[0]), "another order at another reader");
    }
}

fn a_gap_never_splits_a_line(transport: Transport) {
    const PIECE: usize = 5_000;
    let daemon = transport.daemon_with_buffers(256 * 1024, 256 * 1024);
    daemon.create(S);
    let mut reader = daemon.piped_reader(S, []);
    // Nobody reads the pipe, so the reader falls behind.
    let mut writer = daemon.pfs(["write", "--lines", "--close", S]).stdin_pipe().spawn();
    let input = writer.feed(|piece| {
        (piece * PIECE..(piece + 1) * PIECE).map(|i| line(0, i)).collect::<String>().into()
    });
    eventually("it has lost something", || daemon.all_have_lost(S));
    let lines = input.end().iter().filter(|byte| **byte == b'\n').count();
    writer.finish().exits(0);
    let mut output = Vec::new();
    reader.take_stdout().read_to_end(&mut output).unwrap();
    let run = reader.finish().exits(4);
    let gaps = gaps(&run.stderr);
    assert!(!gaps.is_empty());
    let numbers = &by_writer(&output)[&0];
    assert!(numbers.is_sorted(), "in order");
    assert!(numbers.len() < lines);
}

#[test]
fn the_beginning_of_a_line_waits_for_its_end_and_the_last_one_needs_none() {
    let daemon = Daemon::start();
    let mut writer = daemon.pfs(["write", "--lines", S]).stdin_pipe().spawn();
    writer.send(b"one\ntw");
    eventually("the whole line is there", || daemon.head(S) == 4);
    writer.send(b"o\nthree");
    eventually("the next whole line is there", || daemon.head(S) == 8);
    writer.end_input();
    writer.finish().exits(0);
    let read = daemon.pfs(["cat", "--stream", "--until", "caught-up", S]).run().exits(0);
    assert_eq!(read.text(), "one\ntwo\nthree");
}

fn a_line_longer_than_64_kib_is_one_chunk(transport: Transport) {
    let daemon = transport.daemon();
    let long = format!("{}\nshort\n", "y".repeat(1_000_000));
    daemon.pfs(["write", "--lines", "--close", S]).stdin(long.clone()).run().exits(0);
    assert!(daemon.stat_number(S, "chunks") <= 2);
    assert_eq!(daemon.pfs(["cat", "--stream", S]).run().exits(0).text(), long);
}
