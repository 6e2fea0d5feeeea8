//! `pfs stat --watch` on a terminal.

use harness::{Daemon, Pfs, Running, Signal, Terminal, eventually, folder, kill};

const S: &str = "/streamfs/s";

/// Escape sequences for the terminal's alternate screen, and back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Escape sequence at the start of each frame.
const FRAME: &str = "\x1b[H";

fn watching(daemon: &Daemon, terminal: &Terminal) -> Running {
    let watch = daemon.pfs(["stat", "--watch", S]).on_terminal(terminal).spawn();
    eventually("the stream is shown", || terminal.shown().contains(S));
    watch
}

/// Returns the lines of the last complete frame, without escape sequences.
fn last_frame(terminal: &Terminal) -> Vec<String> {
    let shown = terminal.shown();
    let frame =
        shown.rsplit(FRAME).nth(1).filter(|_| shown.matches(FRAME).count() > 1).unwrap_or_default();
    let mut text = String::new();
    let mut rest = frame;
    while let Some((before, escape)) = rest.split_once("\x1b[") {
        text.push_str(before);
        let end = escape
            .find(|letter: char| letter.is_ascii_alphabetic())
            .expect("a sequence has an end");
        rest = &escape[end + 1..];
    }
    text.push_str(rest);
    text.split("\r\n").map(|line| line.trim_matches('\r').to_owned()).collect()
}

/// Returns the number of columns of a line; an ideograph takes two.
fn columns(line: &str) -> usize {
    line.chars().map(|letter| if ('\u{4e00}'..'\u{a000}').contains(&letter) { 2 } else { 1 }).sum()
}

#[test]
fn a_watch_fits_its_window_at_every_size() {
    let daemon = Daemon::start();
    let name = format!("/streamfs/{}", "監視".repeat(40));
    daemon.append(&name, "x");
    daemon.append(S, "x");
    let terminal = Terminal::with_size(8, 30);
    let watch = daemon.pfs(["stat", "--watch", &name, S]).on_terminal(&terminal).spawn();
    for (rows, width) in [(8, 30), (3, 17), (100, 200), (1, 20), (24, 80)] {
        terminal.resize(rows, width);
        let (rows, width) = (usize::from(rows), usize::from(width));
        eventually("the stats are drawn for this size", || {
            let lines = last_frame(&terminal);
            let fits = lines.len() <= rows && lines.iter().all(|line| columns(line) <= width);
            let is_full = match rows {
                100 => lines[0] == name && lines.iter().any(|line| line == S),
                1 => lines[0].ends_with('…') && columns(&lines[0]) == width,
                3 | 8 => lines.len() == rows && lines[rows - 1].contains(" more lines"),
                _ => lines.len() == rows && lines[0].ends_with('…'),
            };
            fits && is_full
        });
    }
    terminal.press("q");
    watch.finish().exits(0);
}

#[test]
fn whatever_ends_a_watch_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let keys = [("q", 0), ("Q", 0), ("\x04", 0), ("\x03", 130), ("\x1c", 131)];
    let signals = [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)];
    let ways = keys
        .map(|(key, code)| (Ok(key), code))
        .into_iter()
        .chain(signals.map(|(s, code)| (Err(s), code)));
    for (way, code) in ways {
        let terminal = Terminal::open();
        let before = terminal.settings();
        let watch = watching(&daemon, &terminal);
        assert_ne!(terminal.settings(), before, "keys come at once");
        match way {
            Ok(key) => terminal.press(key),
            Err(signal) => watch.signal(signal),
        }
        watch.finish().exits(code);
        assert_eq!(terminal.settings(), before, "{way:?}");
        let shown = terminal.all_shown();
        assert!(shown.starts_with(ENTER) && shown.ends_with(LEAVE), "{way:?}: {shown:?}");
        for (hide, show) in [("\x1b[?25l", "\x1b[?25h"), ("\x1b[?7l", "\x1b[?7h")] {
            assert!(shown.rfind(hide) < shown.rfind(show), "{way:?}: {shown:?}");
        }
    }
}

#[test]
fn an_error_during_a_watch_is_shown_and_stays_on_the_screen_afterwards() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    daemon.append("/streamfs/other", "x");
    let terminal = Terminal::open();
    let watch =
        daemon.pfs(["stat", "--watch", S, "/streamfs/other"]).on_terminal(&terminal).spawn();
    eventually("both are shown", || terminal.shown().contains("/streamfs/other"));
    daemon.remove("/streamfs/other");
    let says = "there is no stream /streamfs/other";
    eventually("it is told", || last_frame(&terminal).iter().any(|line| line.contains(says)));
    terminal.press("q");
    watch.finish().exits(3);
    let shown = terminal.all_shown();
    let (_, after) = shown.rsplit_once(LEAVE).unwrap();
    assert!(after.contains(says), "{after:?}");

    let terminal = Terminal::open();
    let before = terminal.settings();
    let watch = watching(&daemon, &terminal);
    daemon.remove(S);
    watch.finish().exits(3);
    assert_eq!(terminal.settings(), before);
    let shown = terminal.all_shown();
    let (_, after) = shown.rsplit_once(LEAVE).unwrap();
    assert!(after.contains("there is no stream /streamfs/s"), "{after:?}");
}

#[test]
fn a_watch_of_a_directory_shows_the_streams_that_come_and_forgets_those_that_go() {
    let daemon = Daemon::start();
    let terminal = Terminal::with_size(60, 80);
    let watch = daemon.pfs(["stat", "--watch"]).on_terminal(&terminal).spawn();
    let is_shown = |name: &str| last_frame(&terminal).iter().any(|line| line == name);
    eventually("the screen is drawn", || terminal.shown().contains(FRAME));
    daemon.append(S, "x");
    eventually("the stream that was made is shown", || is_shown(S));
    daemon.append("/streamfs/other", "x");
    daemon.remove(S);
    eventually("only the other one is shown", || is_shown("/streamfs/other") && !is_shown(S));
    terminal.press("q");
    watch.finish().exits(0);
}

#[test]
fn a_watch_that_is_stopped_gives_the_terminal_back_until_it_goes_on() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let terminal = Terminal::open();
    let before = terminal.settings();
    let path = format!("{}:{}", folder().display(), std::env::var("PATH").unwrap());
    let pid = daemon.dir().join("pid");
    // The shell in between is the process that can continue the watch.
    let line =
        "trap : TSTP; sh -c 'echo $$ > \"$0\"; exec pfs stat --watch /streamfs/s' \"$0\"; exit $?";
    let shell = Pfs::shell(line).arg(&pid).env("PATH", path).env("PFS_SOCKET", daemon.socket());
    let shell = shell.on_terminal(&terminal).spawn();
    eventually("the stream is shown", || terminal.shown().contains(S));
    let pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    terminal.press("\x1a");
    eventually("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")
    });
    assert_eq!(terminal.settings(), before);
    assert!(terminal.all_shown().ends_with(LEAVE), "{:?}", terminal.all_shown());
    kill(pid, Signal::CONT);
    eventually("it is shown again", || {
        let shown = terminal.shown();
        shown
            .rfind(ENTER)
            .is_some_and(|begin| Some(begin) > shown.rfind(LEAVE) && shown[begin..].contains(S))
    });
    assert_ne!(terminal.settings(), before);
    terminal.press("q");
    shell.finish().exits(0);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn a_watch_that_nothing_could_continue_is_not_stopped() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let terminal = Terminal::open();
    let watch = watching(&daemon, &terminal);
    terminal.press("\x1a");
    let frames = || terminal.shown().matches(FRAME).count();
    let drawn = frames();
    eventually("it goes on", || frames() > drawn + 1);
    terminal.press("q");
    watch.finish().exits(0);
}

#[test]
fn a_watch_in_a_pid_namespace_of_another_session_is_not_stopped() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let terminal = Terminal::open();
    let watch = daemon.pfs(["stat", "--watch", S]).on_terminal_in_pid_namespace(&terminal);
    let Some(watch) = watch.map(Pfs::spawn) else { return };
    eventually("the stream is shown", || terminal.shown().contains(S));
    terminal.press("\x1a");
    let drawn = terminal.shown().matches(FRAME).count();
    eventually("it goes on", || terminal.shown().matches(FRAME).count() > drawn + 1);
    terminal.press("q");
    watch.finish().exits(0);
}

#[test]
fn a_signal_while_a_watch_checks_for_keys_is_not_taken_for_a_key() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let terminal = Terminal::open();
    let watch = watching(&daemon, &terminal);
    for _ in 0..50_000 {
        kill(watch.pid(), Signal::TSTP);
    }
    let drawn = terminal.shown().matches(FRAME).count();
    eventually("it goes on", || terminal.shown().matches(FRAME).count() > drawn + 1);
    terminal.press("q");
    watch.finish().exits(0);
}

#[test]
fn a_watch_on_a_dumb_terminal_prints_one_frame_after_the_other() {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    let terminal = Terminal::open();
    let watch =
        daemon.pfs(["stat", "--watch", S]).on_terminal(&terminal).env("TERM", "dumb").spawn();
    eventually("it is shown twice", || terminal.shown().matches(S).count() >= 2);
    assert!(!terminal.shown().contains('\x1b'), "{:?}", terminal.shown());
    watch.signal(Signal::INT);
    watch.finish().exits(130);
}
