//! Colors: for people on a terminal, never in the data.

use harness::{Daemon, Pfs, Terminal, binary, eventually, noise};

const S: &str = "/streamfs/s";

/// One command line for each kind of text: a message, a usage error, help, tables.
const LINES: [&[&str]; 6] = [
    &["stat", "/streamfs/none"],
    &["frobnicate"],
    &["--help"],
    &["help", "cat"],
    &["ls", "-l"],
    &["stat", S],
];

fn daemon() -> Daemon {
    let daemon = Daemon::start();
    daemon.append(S, "x");
    daemon
}

fn has_color(text: &str) -> bool {
    text.contains("\x1b[")
}

/// Returns true if the output on a terminal has any color when this environment variable is set.
fn is_colored_on_a_terminal(pfs: Pfs, (name, value): (&str, &str)) -> bool {
    let terminal = Terminal::open();
    pfs.on_terminal(&terminal).env(name, value).run();
    let shown = terminal.all_shown();
    assert!(shown.ends_with('\n'), "{shown:?}");
    has_color(&shown)
}

/// Returns true if the output into files has any color.
fn is_colored(pfs: Pfs) -> bool {
    let run = pfs.run();
    has_color(run.text()) || has_color(&run.stderr)
}

#[test]
fn messages_usage_errors_help_and_tables_are_colored_on_a_terminal_and_nowhere_else() {
    let daemon = daemon();
    for line in LINES {
        assert!(is_colored_on_a_terminal(daemon.pfs([]).args(line), ("NO_COLOR", "")), "{line:?}");
        assert!(!is_colored(daemon.pfs([]).args(line)), "{line:?}");
    }
}

#[test]
fn the_usual_color_variables_and_the_flag_that_overrides_them_apply_to_all_output() {
    let daemon = daemon();
    for line in LINES {
        for (variable, value) in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
            let plain = daemon.pfs([]).args(line);
            assert!(!is_colored_on_a_terminal(plain, (variable, value)), "{variable} {line:?}");
            let always = daemon.pfs(["--color", "always"]).args(line).env(variable, value);
            assert!(is_colored(always), "{variable} {line:?}");
        }
        let forced = ("CLICOLOR_FORCE", "1");
        assert!(is_colored(daemon.pfs([]).args(line).env(forced.0, forced.1)), "{line:?}");
        assert!(
            !is_colored_on_a_terminal(daemon.pfs(["--color=never"]).args(line), forced),
            "{line:?}"
        );
    }
}

#[test]
fn the_log_of_a_daemon_obeys_the_same_variables() {
    for (value, colored) in [("", true), ("1", false)] {
        let (terminal, folder) = (Terminal::open(), tempfile::tempdir().unwrap());
        let pfsd = Pfs::new(binary("pfsd")).arg("--socket").arg(folder.path().join("s"));
        let _daemon = pfsd.on_terminal(&terminal).env("NO_COLOR", value).spawn();
        eventually("it serves", || terminal.shown().contains("serving"));
        assert_eq!(has_color(&terminal.shown()), colored, "{:?}", terminal.shown());
    }
}

#[test]
fn no_color_is_ever_in_the_data() {
    let daemon = Daemon::start();
    daemon.pfs(["write", "--close", S]).stdin("all").run().exits(0);
    for args in [
        &["cat", "--stream", S][..],
        &["ls"],
        &["ls", "-0"],
        &["ls", "--json"],
        &["stat", "--json", S],
    ] {
        let run = daemon.pfs(["--color", "always"]).args(args).run().exits(0);
        assert!(!has_color(run.text()), "{args:?}: {:?}", run.text());
    }
    assert_eq!(
        daemon.pfs(["--color", "always", "cat", "--stream", S]).run().exits(0).text(),
        "all"
    );
}

#[test]
fn without_a_terminal_there_is_no_progress_and_no_color() {
    let daemon = Daemon::start();
    daemon.pfs(["write", "--stream", S]).stdin(noise(2, 1024 * 1024)).run().exits(0).quietly();
    for args in [["ls", "-l", "/streamfs"], ["stat", S, S]] {
        let run = daemon.pfs(args).run().exits(0).quietly();
        assert!(!has_color(run.text()), "an escape sequence in {:?}", run.text());
    }
}
