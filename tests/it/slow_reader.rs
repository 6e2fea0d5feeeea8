//! Slow readers, and their effect on others.

use std::io::Read as _;

use harness::{Daemon, Running, Signal, Transport, digest, eventually, gaps, kept, noise};

const S: &str = "/streamfs/s";
const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;
/// Memory that a process may gain during a test, whatever went through it.
const FLAT: u64 = 8 * 1024 * 1024;

harness::per_transport! {
    a_stopped_drop_reader_changes_nothing_for_others_and_reports_its_gap_exactly_when_continued,
    a_reader_whose_output_nobody_takes_loses_on_chunk_boundaries_and_keeps_no_backlog,
    a_live_reader_that_lags_by_more_than_the_channel_buffer_skips_to_within_it,
    a_block_reader_makes_the_writer_wait_and_stat_shows_for_whom,
    a_block_reader_counts_as_read_what_its_output_has_taken_and_no_more,
    a_block_reader_whose_output_nobody_takes_becomes_a_drop_reader_after_max_block_time,
    the_death_of_a_stopped_block_reader_releases_the_writer,
    a_writer_that_waits_holds_up_no_other_stream,
    a_disconnect_reader_that_lags_is_ended_with_6_and_slows_nobody,
    a_disconnect_reader_that_keeps_up_gets_everything,
}

fn small_rings(transport: Transport) -> Daemon {
    let daemon = transport.daemon_with_buffers(1024 * 1024, 1024 * 1024);
    daemon.create(S);
    daemon
}

fn a_stopped_drop_reader_changes_nothing_for_others_and_reports_its_gap_exactly_when_continued(
    transport: Transport,
) {
    let daemon = small_rings(transport);
    let mut data = noise(1, 40 * MIB);
    let stopped = daemon.reader(S, ["--slow", "drop"]);
    let mut other = daemon.piped_reader(S, ["--slow", "block"]);
    let got = other.digest_stdout();
    // Enough to fill the ring buffer several times, so that its pages are resident, and so is the
    // memory that each writer and reader needs, before the test measures.
    let (first, second) = data.split_at(16 * MIB);
    daemon.pfs(["write", "--stream", S]).stdin(first).run().exits(0);
    eventually("it has read so far", || {
        stopped.stdout_len() + lost(&stopped.stderr()) == first.len() as u64
    });

    stopped.signal(Signal::STOP);
    let (daemon_before, reader_before) = (daemon.memory(), stopped.memory());
    daemon.pfs(["write", "--stream", S]).stdin(second).run().exits(0).quietly();
    let (daemon_after, reader_after) = (daemon.memory(), stopped.memory());
    assert!(
        daemon_after < daemon_before + FLAT,
        "the daemon grew from {daemon_before} to {daemon_after}"
    );
    assert!(
        reader_after < reader_before + FLAT,
        "the reader grew from {reader_before} to {reader_after}"
    );
    let mut writer = daemon.appender(S);
    // Append until the reader must have lost data, whatever the sockets on the way hold.
    writer.append_until(KIB, || {
        daemon.reader_stat(S, stopped.pid()).unwrap()["lag"].as_u64() > Some(MIB as u64)
    });
    data.extend(writer.finish());
    stopped.signal(Signal::CONT);
    eventually("it has caught up", || {
        stopped.stdout_len() + lost(&stopped.stderr()) == data.len() as u64
    });
    assert!(stopped.memory() < reader_before + FLAT);
    daemon.append(S, "and live");
    data.extend(b"and live");
    eventually("it goes on live", || stopped.stdout().ends_with(b"and live"));
    daemon.close(S);

    let run = stopped.finish().exits(4);
    let gaps = gaps(&run.stderr);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.path == S), "{gaps:?}");
    assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
    other.finish().exits(0).quietly();
    assert_eq!(got.join().unwrap(), digest(&data));
}

#[test]
fn readers_that_share_the_daemon_s_copies_each_get_every_byte_from_their_own_start() {
    let daemon = small_rings(Transport::Unix);
    let data = noise(3, 12 * MIB);
    let half = 6 * MIB + 12_345;
    let join = |from: &str| -> Vec<_> {
        let arguments = ["--slow", "block", "--offset", from];
        let reader = |_| daemon.piped_reader_on(Transport::Unix, S, arguments);
        (0..4).map(reader).map(|mut reader| (reader.digest_stdout(), reader)).collect()
    };
    let write = |bytes: &[u8]| {
        let arguments = ["write", "--stream", "--chunk-size", "50000", S];
        daemon.pfs(arguments).stdin(bytes).run().exits(0);
    };
    let early = join("0").into_iter().map(|reader| (reader, &data[..]));
    write(&data[..half]);
    let late = join(&half.to_string()).into_iter().map(|reader| (reader, &data[half..]));
    write(&data[half..]);
    daemon.close(S);
    for ((got, reader), expected) in early.chain(late) {
        reader.finish().exits(0).quietly();
        assert_eq!(got.join().unwrap(), digest(expected));
    }
}

fn lost(stderr: &str) -> u64 {
    // The last line may be incomplete.
    let whole = stderr.rfind('\n').map_or(0, |end| end + 1);
    gaps(&stderr[..whole]).iter().map(|gap| gap.to - gap.from).sum()
}

fn a_reader_whose_output_nobody_takes_loses_on_chunk_boundaries_and_keeps_no_backlog(
    transport: Transport,
) {
    let daemon = small_rings(transport);
    let mut reader = daemon.piped_reader(S, []);
    let before = reader.memory();
    let mut writer = daemon.appender(S);
    writer.append(&noise(2, 24 * MIB), KIB);
    writer.append_until(KIB, || daemon.all_have_lost(S));
    assert!(
        reader.memory() < before + FLAT,
        "the reader grew from {before} to {}",
        reader.memory()
    );
    assert_eq!(daemon.reader_stat(S, reader.pid()).unwrap()["policy"], "drop");
    let data = writer.close();
    let mut output = Vec::new();
    reader.take_stdout().read_to_end(&mut output).unwrap();
    let gaps = gaps(&reader.finish().exits(4).stderr);
    assert_eq!(digest(&output), digest(&kept(&data, 0, &gaps)));
    for gap in &gaps {
        assert!(gap.from % 1024 == 0 && gap.to % 1024 == 0, "{gap:?} is not on chunk boundaries");
        assert_eq!(gap.chunks, Some((gap.to - gap.from) / 1024), "{gap:?}");
    }
    assert_eq!(
        daemon.stat_number(S, "lost_bytes"),
        gaps.iter().map(|gap| gap.to - gap.from).sum::<u64>()
    );
}

fn a_live_reader_that_lags_by_more_than_the_channel_buffer_skips_to_within_it(
    transport: Transport,
) {
    let daemon = transport.daemon();
    daemon.create_with_buffers(S, 32 * 1024 * 1024, 256 * 1024);
    let reader = daemon.reader(S, []);
    let mut writer = daemon.appender(S);
    writer.append(b"0123456789", 10);
    eventually("it is live", || reader.stdout_len() == 10);
    reader.signal(Signal::STOP);
    // The reader is too far behind, and no more data comes. Whatever it has lost before, it must
    // now skip to an offset within the channel size of the end.
    let is_behind =
        || daemon.reader_stat(S, reader.pid()).unwrap()["lag"].as_u64() > Some(256 * 1024);
    writer.append_until(KIB, is_behind);
    let data = writer.close();
    reader.signal(Signal::CONT);
    let run = reader.finish().exits(4);
    let gaps = gaps(&run.stderr);
    assert_eq!(digest(&run.stdout), digest(&kept(&data, 0, &gaps)));
    // The ring buffer still held all bytes, so only the limit on the lag can have caused the gap.
    assert_eq!(daemon.stat_number(S, "tail"), 0);
    assert!(gaps.last().unwrap().to >= (data.len() - (256 * 1024)) as u64, "{gaps:?}");
    // The limit does not apply to a reader of history.
    assert_eq!(digest(&daemon.pfs(["cat", "--stream", S]).run().exits(0).stdout), digest(&data));
}

fn a_block_reader_makes_the_writer_wait_and_stat_shows_for_whom(transport: Transport) {
    let daemon = small_rings(transport);
    let mut slow = daemon.piped_reader(S, ["--slow", "block"]);
    let mut other = daemon.piped_reader(S, ["--slow", "block"]);
    let other_got = other.digest_stdout();
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let input = writer.feed(|number| noise(number as u64, MIB));
    eventually("the writer waits for the slow one", || {
        let stat = daemon.stat(S).unwrap();
        let waits =
            stat["writers"].as_array().unwrap().iter().any(|writer| writer["waiting"] == true);
        let blocking =
            |reader: &Running| daemon.reader_stat(S, reader.pid()).unwrap()["blocking"] == true;
        // The other reader may be as far behind, but only for a moment.
        waits && blocking(&slow) && !blocking(&other)
    });
    assert_eq!(daemon.reader_stat(S, slow.pid()).unwrap()["policy"], "block");
    assert!(daemon.pfs(["stat", S]).run().exits(0).text().contains(&slow.pid().to_string()));
    assert!(writer.runs());
    let got = slow.digest_stdout();
    let data = input.end();
    writer.finish().exits(0);
    for (reader, got) in [(slow, got), (other, other_got)] {
        reader.finish().exits(0).quietly();
        assert_eq!(got.join().unwrap(), digest(&data));
    }
}

fn a_block_reader_counts_as_read_what_its_output_has_taken_and_no_more(transport: Transport) {
    let daemon = small_rings(transport);
    // The history is there before the reader comes. A reader that waits copies the chunk that wakes
    // it, so a live chunk would not do here.
    let history = noise(5, MIB / 2);
    daemon.pfs(["write", "--stream", S]).stdin(&history[..]).run().exits(0);
    let mut slow = daemon.piped_reader(S, ["--slow", "block"]);
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let live = writer.feed(|number| noise(number as u64, MIB));
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, slow.pid()).unwrap()["blocking"] == true
    });
    // An shm reader keeps no copy, so its position is where the pipe was full.
    if transport == Transport::Shm {
        let position = daemon.reader_stat(S, slow.pid()).unwrap()["position"].as_u64().unwrap();
        assert!(position <= 256 * 1024, "{position} bytes count as read");
    }
    let got = slow.digest_stdout();
    let data = [history, live.end()].concat();
    writer.finish().exits(0);
    slow.finish().exits(0).quietly();
    assert_eq!(got.join().unwrap(), digest(&data));
}

fn a_block_reader_whose_output_nobody_takes_becomes_a_drop_reader_after_max_block_time(
    transport: Transport,
) {
    let daemon = transport.daemon_with_config(
        "[plugins.streamfs.config]\nring_buffer_size = \"1MB\"\nchannel_buffer_size = \"1MB\"\n\
         [limits]\nmax_block_time = \"50ms\"\n",
    );
    daemon.create(S);
    let mut slow = daemon.piped_reader(S, ["--slow", "block"]);
    let data = noise(9, 24 * MIB);
    // The chunks are large enough that an shm reader would write them straight from the ring buffer
    // if the daemon allowed that.
    daemon
        .pfs(["write", "--stream", "--close", "--chunk-size", "64KB", S])
        .stdin(&data[..])
        .run()
        .exits(0);
    let stat = daemon.reader_stat(S, slow.pid()).unwrap();
    assert_eq!(
        (&stat["policy"], &stat["was_block"], &stat["blocking"]),
        (&"drop".into(), &true.into(), &false.into())
    );
    assert!(
        daemon
            .pfs(["stat", S])
            .run()
            .exits(0)
            .text()
            .contains("was block: writers gave up waiting for it")
    );
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("the reader is a drop reader now"))
        .expect("a line of the log");
    for part in ["WARN", S, &format!("pid={}", slow.pid()), "max_block_time_ms=50"] {
        assert!(line.contains(part), "nothing of {part} in {line}");
    }
    if transport == Transport::Http {
        let metrics = String::from_utf8(daemon.get("/metrics").has(200).body).unwrap();
        assert!(metrics.contains("pfs_block_readers_given_up_total 1"), "{metrics}");
    }

    let mut output = Vec::new();
    slow.take_stdout().read_to_end(&mut output).unwrap();
    let gaps = gaps(&slow.finish().exits(4).stderr);
    assert!(!gaps.is_empty());
    assert!(
        output == kept(&data, 0, &gaps),
        "what it printed and what it reported are not the whole"
    );
}

fn the_death_of_a_stopped_block_reader_releases_the_writer(transport: Transport) {
    let daemon = small_rings(transport);
    let stopped = daemon.reader(S, ["--slow", "block"]);
    stopped.signal(Signal::STOP);
    let writer = daemon.pfs(["write", "--stream", S]).stdin(noise(4, 8 * MIB)).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, stopped.pid()).unwrap()["blocking"] == true
    });
    stopped.signal(Signal::KILL);
    writer.finish().exits(0);
    assert_eq!(daemon.head(S), 8 * MIB as u64);
}

fn a_writer_that_waits_holds_up_no_other_stream(transport: Transport) {
    let daemon = small_rings(transport);
    let stopped = daemon.reader(S, ["--slow", "block"]);
    stopped.signal(Signal::STOP);
    let mut writer = daemon.pfs(["write", "--stream", S]).stdin(noise(5, 8 * MIB)).spawn();
    eventually("the writer waits for it", || {
        daemon.reader_stat(S, stopped.pid()).unwrap()["blocking"] == true
    });
    let data = noise(6, 4 * MIB);
    let mut reader =
        daemon.pfs(["cat", "--stream", "--slow", "block", "/streamfs/other"]).stdout_pipe().spawn();
    let got = reader.digest_stdout();
    let write =
        daemon.pfs(["write", "--stream", "--close", "--wait-readers", "1", "/streamfs/other"]);
    write.stdin(&data[..]).run().exits(0);
    reader.finish().exits(0);
    assert_eq!(got.join().unwrap(), digest(&data));
    assert!(writer.runs());
}

fn a_disconnect_reader_that_lags_is_ended_with_6_and_slows_nobody(transport: Transport) {
    let daemon = small_rings(transport);
    let mut slow = daemon.piped_reader(S, ["--slow", "disconnect"]);
    let mut writer = daemon.appender(S);
    // The daemon ends the reader as soon as it is too far behind; an shm reader checks that itself
    // when it reads on.
    writer.append_until(64 * KIB, || daemon.all_have_lost(S));
    let data = writer.close();
    let mut output = Vec::new();
    slow.take_stdout().read_to_end(&mut output).unwrap();
    slow.finish().exits(6).says("slow");
    assert!(output.len() < data.len() && data.starts_with(&output), "what it got is not a prefix");
}

fn a_disconnect_reader_that_keeps_up_gets_everything(transport: Transport) {
    let daemon = small_rings(transport);
    let mut writer = daemon.pfs(["write", "--stream", "--close", S]).stdin_pipe().spawn();
    let reader = daemon.reader(S, ["--slow", "disconnect"]);
    let data = noise(8, 8 * MIB);
    for (i, part) in data.chunks(MIB / 4).enumerate() {
        writer.send(part);
        eventually("it has kept up", || reader.stdout_len() == ((i + 1) * MIB / 4) as u64);
    }
    writer.end_input();
    writer.finish().exits(0);
    assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
}
