//! Invalid command lines: each gets a clear error and changes nothing.

use harness::{Daemon, Finished, Pfs};
use pfs_proto::Unprintable;

const S: &str = "/streamfs/s";

#[track_caller]
fn is_clear(what: &str, run: &Finished) {
    assert!(run.stderr.trim().len() > 10, "{what}: stderr: {:?}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
    assert!(run.stderr.len() < 2_000, "{what} is repeated at length: {} bytes", run.stderr.len());
    for line in run.stderr.lines() {
        assert_eq!(Unprintable::find(line), None, "{what}: it is not escaped: {line:?}");
    }
    assert_eq!(run.stdout, b"", "{what}");
}

#[test]
fn bad_paths_are_refused_by_every_command_and_create_nothing() {
    let daemon = Daemon::start();
    let long = format!("/streamfs/{}", "x".repeat(10_000));
    let malformed = [
        "",
        "relative",
        "streamfs/s",
        "/streamfs/../s",
        "/streamfs/.",
        "/streamfs//s",
        "/streamfs/a\nb",
        "/streamfs/a\u{1b}[31mb",
        "/streamfs/a\u{7f}",
        "/streamfs/cam\u{202e}4pm",
        "/streamfs/cam\u{200b}",
        "/streamfs/cam\u{2028}",
        "/streamfs/cam ",
        &long,
    ];
    for path in malformed {
        let commands: [&[&str]; 6] = [
            &["write", path],
            &["cat", "--stream", path],
            &["create", path],
            &["stat", path],
            &["close", path],
            &["rm", path],
        ];
        for args in commands {
            let run = daemon.pfs([]).args(args).stdin("x").run().exits(2);
            is_clear(
                &format!("{} of {:?}", args[0], path.chars().take(40).collect::<String>()),
                &run,
            );
        }
    }
    for path in ["/", "/streamfs", "/streamfs/"] {
        for command in ["write", "create", "close"] {
            let run = daemon.pfs([command, path]).stdin("x").run().exits(2);
            is_clear(&format!("{command} of {path}"), &run);
        }
    }
    assert!(daemon.streams().is_empty());
}

#[test]
fn paths_outside_the_mount_are_refused_and_the_mount_is_named() {
    let daemon = Daemon::start();
    for command in [
        &["write"][..],
        &["write", "--stream"],
        &["cat", "--stream"],
        &["create"],
        &["stat"],
        &["close"],
        &["rm"],
    ] {
        for path in ["/elsewhere/s", "/streamfsx/s", "/STREAMFS/s"] {
            let run = daemon.pfs([]).args(command).arg(path).stdin("x").run();
            assert_eq!(run.code, 2, "{command:?} {path}: {}", run.stderr);
            is_clear(&format!("{command:?} {path}"), &run);
            run.says(path).says("/streamfs");
        }
    }
    assert!(daemon.streams().is_empty());
}

#[test]
fn a_path_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let daemon = Daemon::start();
    let run = daemon
        .pfs(["create"])
        .arg(std::ffi::OsStr::from_bytes(b"/streamfs/\xff\xfe"))
        .run()
        .exits(2);
    is_clear("bytes that are no UTF-8", &run);
    assert!(daemon.streams().is_empty());
}

#[test]
fn bad_values_are_usage_errors_that_name_the_flag_and_change_nothing() {
    let daemon = Daemon::start();
    daemon.create("/streamfs/there");
    let sizes =
        ["", "0", "-1", "abc", "1XB", "1.5.2MB", "NaN", "1e3", "99999999999999999999GB", "0x10"];
    let durations = ["", "soon", "-1s", "10", "0s", "99999999999999999999999s"];
    let mut cases: Vec<Vec<String>> = Vec::new();
    let mut case = |args: &[&str]| cases.push(args.iter().map(|arg| (*arg).to_owned()).collect());
    for size in sizes {
        case(&["--ring-buffer-size", size, "create", S]);
        case(&["--channel-buffer-size", size, "create", S]);
        case(&["--chunk-size", size, "write", "--stream", S]);
        if size != "0" {
            case(&["--tail", size, "cat", "--stream", S]);
        }
    }
    for duration in durations {
        case(&["--ttl", duration, "create", S]);
        case(&["--since", duration, "cat", "--stream", S]);
        case(&["--until", &format!("idle={duration}"), "cat", "--stream", S]);
    }
    for number in ["", "-1", "x", "1.5", "18446744073709551616"] {
        case(&["--offset", number, "cat", "--stream", S]);
        case(&["--wait-readers", number, "write", "--stream", S]);
    }
    for word in ["", "sometimes", "DROP ", "drop,block"] {
        case(&["--slow", word, "cat", "--stream", S]);
        case(&["--until", word, "cat", "--stream", S]);
        case(&["--color", word, "ls", "/streamfs"]);
    }
    for args in cases {
        // Written with `=`, so that a value such as -1 is not taken for a flag.
        let flag = format!("{}={}", args[0], args[1]);
        let run = daemon.pfs([]).args(&args[2..]).arg(&flag).stdin("x").run();
        let shown = format!("{} {flag}", args[2]);
        assert_eq!(run.code, 2, "{shown}: {}", run.stderr);
        is_clear(&shown, &run);
        run.says(&args[0]);
    }
    assert_eq!(daemon.streams(), ["/streamfs/there"]);
}

#[test]
fn unknown_commands_and_flags_are_usage_errors() {
    for args in [&["frobnicate"][..], &["ls", "--frobnicate"], &["cat"], &["write"], &[], &["rm"]] {
        let run = Pfs::usual().args(args).run();
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_content_type_that_is_too_long_or_has_hidden_characters_is_refused() {
    let daemon = Daemon::start();
    let hidden = daemon.pfs(["create", "--content-type", "text/x\u{202e}", S]).run().exits(2);
    is_clear("a content type that is not shown as it is", &hidden);
    hidden.says("character 7 is U+202E");
    let run = daemon.pfs(["create", "--content-type", &"x".repeat(256), S]).run();
    assert_eq!(run.code, 2, "{}", run.stderr);
    is_clear("a content type of 256 bytes", &run);
    assert!(daemon.streams().is_empty());
}
