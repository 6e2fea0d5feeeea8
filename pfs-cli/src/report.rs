//! Output of `pfs ls -l`, `pfs stat` and `pfs info` for people.

use std::{fmt::Write, time::SystemTime};

use humantime::format_duration;
use pfs_proto::{
    DaemonInfo, MediaStat, MountStat, Peer, ReaderStat, StreamStat, StreamSummary, WriterStat,
    escape, json::timestamp,
};

use crate::{
    age::{since, span},
    links,
    place::Place,
    printer::HEADING,
    size::{rate, size},
    table::{Align, Table, UNKNOWN},
};

/// Formats the table of `pfs ls -l`: a header and one line per stream. Empty if there are
/// no streams.
pub(crate) fn listing(streams: &[StreamSummary], now: SystemTime) -> String {
    if streams.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("STATE", Align::Left),
        ("SIZE", Align::Right),
        ("HEAD", Align::Right),
        ("WRITERS", Align::Right),
        ("READERS", Align::Right),
        ("AGE", Align::Right),
        ("PATH", Align::Left),
    ]);
    for stream in streams {
        table.row([
            stream.state.to_string(),
            size(stream.head.saturating_sub(stream.tail)),
            stream.head.to_string(),
            stream.writers.to_string(),
            stream.readers.to_string(),
            span(since(stream.created, now)),
            escape(&stream.path).into_owned(),
        ]);
    }
    table.render("")
}

/// Formats all stats of a stream, below its path.
pub(crate) fn stat_block(stream: &StreamStat, now: SystemTime) -> String {
    let mut text = format!("{HEADING}{}{HEADING:#}\n", escape(&stream.path));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("state", stream.state.to_string());
    let created = span(since(stream.created, now));
    line("created", format!("{created} ago{}", by(stream.owner)));
    let last = stream
        .last_append
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", span(since(at, now))));
    line("appended", last);
    line("head", format!("{} ({})", stream.head, size(stream.head)));
    line(
        "tail",
        format!("{} ({} held)", stream.tail, size(stream.head.saturating_sub(stream.tail))),
    );
    line("chunks", format!("{} ({} held)", stream.chunks, stream.chunks_held));
    line("rate", rate(stream.rate));
    let sizes = [
        ("ring", stream.ring_buffer_size),
        ("channel", stream.channel_buffer_size),
        ("capacity", stream.capacity),
        ("memory", stream.memory),
    ];
    let moves = match stream.moves {
        0 => String::new(),
        1 => ", moved once".to_owned(),
        moves => format!(", moved {moves} times"),
    };
    line("sizes", sizes.map(|(name, bytes)| format!("{name} {}", size(bytes))).join(", ") + &moves);
    if let Some(ttl) = stream.ttl {
        line("ttl", format!("{} after the last append", format_duration(ttl)));
    }
    if let Some(content_type) = &stream.content_type {
        line("content", escape(content_type).into_owned());
    }
    if let Some(media) = &stream.media {
        line("media", media_text(media));
    }
    for hop in &stream.hops {
        line("mount", links::hop(hop, now));
    }
    line("lost", format!("{} by all readers", size(stream.lost_bytes)));
    let (finished, died) = (stream.writers_finished, stream.writers_died);
    line("writers", format!("{} attached, {finished} finished, {died} died", stream.writers.len()));
    text.push_str(&writers(stream, now));
    let _ = writeln!(
        text,
        "  {:<9} {} attached{}",
        "readers",
        stream.readers.len(),
        waited_for(&stream.readers)
    );
    text.push_str(&readers(stream, now));
    text
}

fn media_text(media: &MediaStat) -> String {
    let mut text = format!("{}, header {}", escape(&media.format), size(media.header_bytes));
    if let Some(last) = media.last_sync {
        let _ = write!(text, ", last sync point at {last}");
    }
    if let Some(bytes) = media.gop_bytes {
        let _ = write!(text, ", GOP {}", size(bytes));
    }
    if let Some(time) = media.gop.filter(|time| !time.is_zero()) {
        let _ = write!(text, " in {}", span(time));
    }
    text
}

/// Formats the stats of the daemon, below its address.
pub(crate) fn daemon(
    info: &DaemonInfo,
    remote: &[MountStat],
    place: &Place,
    now: SystemTime,
) -> String {
    let own = env!("CARGO_PKG_VERSION");
    let version = escape(&info.version);
    let version =
        if version == own { version.into_owned() } else { format!("{version}, and pfs {own}") };
    let mounts: Vec<_> = info.mounts.iter().map(|mount| escape(mount)).collect();
    let lines = [
        ("version", version),
        ("pid", info.pid.to_string()),
        ("started", format!("{} ago, {}", span(since(info.started, now)), timestamp(info.started))),
        ("mounts", mounts.join(" ")),
        ("streams", format!("{} of {}", info.streams, info.max_streams)),
        ("memory", format!("{} of {}", size(info.memory), size(info.max_memory))),
        (
            "connections",
            format!("{} of {}, including this one", info.connections, info.max_connections),
        ),
    ];
    let lines: String =
        lines.iter().map(|(name, value)| format!("  {name:<11} {value}\n")).collect();
    let remote: String = remote.iter().map(|mount| links::mount(mount, now)).collect();
    format!("pfsd {}\n{lines}{remote}", escape(&place.to_string()))
}

fn writers(stream: &StreamStat, now: SystemTime) -> String {
    if stream.writers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("UID", Align::Right),
        ("APPENDED", Align::Right),
        ("AGE", Align::Right),
        ("", Align::Left),
    ]);
    for writer in &stream.writers {
        let state = match writer {
            WriterStat { waiting: true, .. } => "waits for a reader",
            WriterStat { leased: true, .. } => "appends directly, under a lease",
            _ => "",
        };
        let [pid, uid] = who(writer.peer);
        table.row([pid, uid, size(writer.bytes), span(since(writer.since, now)), state.to_owned()]);
    }
    table.render("    ")
}

fn readers(stream: &StreamStat, now: SystemTime) -> String {
    if stream.readers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("UID", Align::Right),
        ("POSITION", Align::Right),
        ("LAG", Align::Right),
        ("POLICY", Align::Left),
        ("LOST", Align::Right),
        ("AGE", Align::Right),
        ("", Align::Left),
    ]);
    for reader in &stream.readers {
        let lost = match reader.lost_bytes {
            0 => "0 B".to_owned(),
            bytes if reader.lost_chunks == 0 => size(bytes),
            bytes => format!("{} in {} chunks", size(bytes), reader.lost_chunks),
        };
        let blocking = match reader {
            ReaderStat { blocking: true, .. } => "a writer waits for it",
            ReaderStat { was_block: true, .. } => "was block: writers gave up waiting for it",
            _ => "",
        };
        let [pid, uid] = who(reader.peer);
        table.row([
            pid,
            uid,
            reader.position.to_string(),
            size(reader.lag),
            reader.policy.to_string(),
            lost,
            span(since(reader.since, now)),
            blocking.to_owned(),
        ]);
    }
    table.render("    ")
}

/// Formats the process id and user id of a client.
fn who(peer: Peer) -> [String; 2] {
    [peer.pid, peer.uid].map(|id| id.map_or_else(|| UNKNOWN.to_owned(), |id| id.to_string()))
}

/// Formats the creator of a stream, as far as it is known. Over HTTP the user is unknown, because
/// the system does not vouch for it, and only a client on this machine tells its process id.
fn by(owner: Peer) -> String {
    match (owner.pid, owner.uid) {
        (Some(pid), Some(uid)) => format!(" by process {pid} of user {uid}"),
        (Some(pid), None) => format!(" by process {pid}"),
        (None, Some(uid)) => format!(" by user {uid}"),
        (None, None) => String::new(),
    }
}

/// Names the readers that make writers wait, if any.
fn waited_for(readers: &[ReaderStat]) -> String {
    let blocking: Vec<&ReaderStat> = readers.iter().filter(|reader| reader.blocking).collect();
    let known: Vec<String> =
        blocking.iter().filter_map(|reader| reader.peer.pid).map(|pid| pid.to_string()).collect();
    match (known.len(), blocking.len().saturating_sub(known.len())) {
        (0, 0) => String::new(),
        (0, others) => format!(", writers wait for {others} of them"),
        (_, 0) => format!(", writers wait for {}", known.join(", ")),
        (_, others) => format!(", writers wait for {} and {others} more", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::sample;

    fn shown(stream: &StreamStat) -> String {
        strip_str(&stat_block(stream, sample::now())).to_string()
    }

    #[test]
    fn a_long_listing_has_a_header_and_a_line_per_stream() {
        assert_eq!(
            strip_str(&listing(&sample::summaries(), sample::now())).to_string(),
            "\
STATE      SIZE     HEAD  WRITERS  READERS     AGE  PATH
open    1.0 MiB  3145728        1        2  3m 12s  /streamfs/cam
closed      0 B        0        0        0   2h 5m  /streamfs/empty
"
        );
        assert_eq!(listing(&[], sample::now()), "");
    }

    #[test]
    fn the_stats_of_a_stream_show_the_reader_that_writers_wait_for() {
        assert_eq!(
            shown(&sample::stat()),
            "\
/streamfs/cam
  state     open
  created   3m 12s ago by process 4711 of user 1000
  appended  0s ago
  head      3145728 (3.0 MiB)
  tail      2097152 (1.0 MiB held)
  chunks    48 (16 held)
  rate      1.5 MiB/s
  sizes     ring 1.0 MiB, channel 512.0 KiB, capacity 1.0 MiB, memory 1.0 MiB, moved 3 times
  ttl       1h after the last append
  content   video/mp2t
  media     MPEG-TS, header 376 B, last sync point at 3000000, GOP 488.3 KiB in 2s
  lost      64.0 KiB by all readers
  writers   1 attached, 2 finished, 1 died
     PID   UID  APPENDED     AGE
    4711  1000   3.0 MiB  3m 10s  waits for a reader
  readers   2 attached, writers wait for 4712
     PID   UID  POSITION      LAG  POLICY                  LOST  AGE
    4712  1000   2097152  1.0 MiB  block                    0 B   1m  a writer waits for it
       -     -   3145728      0 B  drop    64.0 KiB in 1 chunks   5s
"
        );
    }

    #[test]
    fn a_daemon_is_shown_with_its_limits_and_our_version_if_it_differs() {
        let place = Place::Socket("/run/pfs/pfsd.sock".into());
        let shown = daemon(&sample::info(), &[], &place, sample::now());
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            shown,
            format!(
                "\
pfsd on /run/pfs/pfsd.sock
  version     0.0.9, and pfs {own}
  pid         4711
  started     2h 5m ago, 2023-11-14T20:08:20.000Z
  mounts      /streamfs
  streams     2 of 1000
  memory      1.0 MiB of 1.0 GiB
  connections 5 of 4096, including this one
"
            )
        );
        let same = DaemonInfo { version: own.to_owned(), ..sample::info() };
        assert!(
            daemon(&same, &[], &place, sample::now()).contains(&format!("  version     {own}\n"))
        );
    }

    #[test]
    fn unknown_ids_of_http_clients_are_left_out() {
        let mut stat = sample::stat();
        stat.owner = Peer { pid: Some(4711), uid: None };
        let first = &mut stat.readers[0];
        first.peer = Peer::default();
        first.blocking = true;
        stat.writers[0].peer = Peer { pid: Some(4711), uid: None };
        let text = shown(&stat);
        assert!(text.contains("created   3m 12s ago by process 4711\n"), "{text}");
        let (_, attached) = text.split_once("  writers ").unwrap();
        assert_eq!(
            attached,
            "  1 attached, 2 finished, 1 died
     PID  APPENDED     AGE
    4711   3.0 MiB  3m 10s  waits for a reader
  readers   2 attached, writers wait for 1 of them
    POSITION      LAG  POLICY                  LOST  AGE
     2097152  1.0 MiB  block                    0 B   1m  a writer waits for it
     3145728      0 B  drop    64.0 KiB in 1 chunks   5s
"
        );
        stat.readers[1].blocking = true;
        stat.readers[1].peer.pid = Some(4712);
        assert!(shown(&stat).contains("writers wait for 4712 and 1 more\n"));
        stat.owner = Peer::default();
        assert!(shown(&stat).contains("created   3m 12s ago\n"));
    }
}
