//! Tests of the command line: what is accepted, and what is refused.

use clap::{CommandFactory, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

/// Returns the message of a refused command line, and checks that the exit code is 2.
fn refused(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line}");
    assert!(error.to_string().ends_with('\n'), "{line}");
    error.to_string()
}

fn cat(line: &str) -> CatArgs {
    match parse(line) {
        Ok(Command::Cat(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_definitions_are_valid() {
    Cli::command().debug_assert();
}

#[test]
fn stream_is_a_flag_and_the_path_a_separate_argument() {
    for line in ["pfs write --stream /streamfs/cam", "pfs write /streamfs/cam --stream"] {
        match parse(line) {
            Ok(Command::Write(args)) => {
                assert!(args.stream && !args.lines && !args.close && !args.tee);
                assert_eq!(
                    (args.path.as_str(), args.chunk_size, args.wait_readers),
                    ("/streamfs/cam", 65_536, 0)
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reader_starts_at_the_oldest_chunk_unless_told_otherwise() {
    assert_eq!(cat("pfs cat --stream /streamfs/cam").start.start(), Start::Oldest);
    assert_eq!(cat("pfs cat --stream --new /streamfs/cam").start.start(), Start::New);
    assert_eq!(
        cat("pfs cat --stream --tail 1MB /streamfs/cam").start.start(),
        Start::Tail(1024 * 1024)
    );
    assert_eq!(
        cat("pfs cat --stream --since 1m30s /streamfs/cam").start.start(),
        Start::Since(Duration::from_secs(90))
    );
    assert_eq!(cat("pfs cat --stream --offset 0 /streamfs/cam").start.start(), Start::Offset(0));
    assert_eq!(
        cat("pfs cat --stream --offset 10M /streamfs/cam").start.start(),
        Start::Offset(10 * 1024 * 1024)
    );
}

#[test]
fn start_positions_exclude_each_other() {
    let starts = ["--new", "--tail 1MB", "--since 10s", "--offset 5"];
    for (at, one) in starts.iter().enumerate() {
        for other in &starts[at + 1..] {
            let error =
                parse(&format!("pfs cat --stream {one} {other} /streamfs/cam")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{one} {other}");
        }
    }
}

#[test]
fn flags_about_streams_imply_stream() {
    for line in [
        "pfs cat -f /streamfs/cam",
        "pfs cat --follow /streamfs/cam",
        "pfs cat --new /streamfs/cam",
        "pfs cat --tail 1MB /streamfs/cam",
        "pfs cat --since 1s /streamfs/cam",
        "pfs cat --offset 1 /streamfs/cam",
        "pfs cat --until closed /streamfs/cam",
        "pfs cat --slow drop --progress /streamfs/cam",
    ] {
        assert!(cat(line).follows(), "{line}");
    }
    assert!(!cat("pfs cat /streamfs/cam").follows());
}

#[test]
fn flags_that_depend_on_stream_require_it() {
    for line in ["pfs cat --progress /streamfs/cam", "pfs write --chunk-size 1KB /streamfs/cam"] {
        assert!(refused(line).contains("--stream"), "{line}");
    }
}

#[test]
fn names_from_other_programs_are_accepted() {
    for word in ["read", "get", "sub", "tail"] {
        assert_eq!(
            cat(&format!("pfs {word} --stream /streamfs/cam")).path.as_str(),
            "/streamfs/cam"
        );
    }
    for word in ["pub", "publish"] {
        assert!(
            matches!(parse(&format!("pfs {word} /streamfs/cam")), Ok(Command::Write(_))),
            "{word}"
        );
    }
    assert!(matches!(
        parse("pfs stat -w /streamfs/cam"),
        Ok(Command::Stat(StatArgs { watch: true, .. }))
    ));
}

#[test]
fn the_input_is_files_or_the_output_of_a_command() {
    let write = |line: &str| match parse(line) {
        Ok(Command::Write(args)) => (args.files, args.command),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(write("pfs write /streamfs/log a - --stream").0, ["a", "-"].map(PathBuf::from));
    assert_eq!(write("pfs write /streamfs/log -- sh -c a").1, ["sh", "-c", "a"]);
    assert!(refused("pfs write /streamfs/log a -- sh").contains("cannot be used with"));
}

#[test]
fn lines_implies_stream_mode() {
    for line in [
        "pfs write --lines /s/a",
        "pfs write --lines --chunk-size 1KB /s/a",
        "pfs write --stream --lines /s/a",
    ] {
        assert!(matches!(parse(line), Ok(Command::Write(args)) if args.lines), "{line}");
    }
}

#[test]
fn a_bad_path_is_refused_with_the_rule_that_it_breaks() {
    let long = format!("/streamfs/{}", "x".repeat(10_000));
    for (path, rule) in [
        ("", "path is empty"),
        ("streamfs/cam", "does not begin with '/'"),
        ("cam", "did you mean /streamfs/cam?"),
        ("/streamfs/../etc", "'.' or '..'"),
        ("/streamfs//cam", "segment of the path is empty"),
        ("/streamfs/a\u{7}b", "character 12 is U+0007"),
        ("/streamfs/cam\u{202e}4pm", "character 14 is U+202E"),
        ("/streamfs", "does not name a stream"),
        (long.as_str(), "longer than 1024 bytes"),
    ] {
        for command in ["write --stream", "cat --stream", "cat", "create", "close"] {
            let message = refused(&format!("pfs {command} {path}"));
            assert!(message.contains(rule), "{command}: {message}");
            assert!(
                message.len() < 500 && !message.contains(['\u{7}', '\u{202e}']),
                "{command}: {message}"
            );
        }
    }
}

#[test]
fn bad_values_are_refused() {
    for line in [
        "pfs write --stream --chunk-size 0 /streamfs/cam",
        "pfs write --wait-readers -1 /streamfs/cam",
        "pfs cat --stream --tail much /streamfs/cam",
        "pfs cat --stream --since 10 /streamfs/cam",
        "pfs cat --stream --offset -1 /streamfs/cam",
        "pfs cat --stream --until never /streamfs/cam",
        "pfs cat --stream --slow maybe /streamfs/cam",
        "pfs create --ring-buffer-size 0 /streamfs/cam",
        "pfs create --ttl 0s /streamfs/cam",
        "pfs ls --color sometimes",
        "pfs ls -l --json",
        "pfs ls -0 -l",
        "pfs ls --null --json",
        "pfs ls -q -v",
        "pfs ls --socket /run/pfsd.sock --url http://localhost:4437",
        "pfs close",
        "pfs rm",
        "pfs info /streamfs/cam",
        "pfs stop now",
        "pfs bench --writers 0",
        "pfs bench --rate 0",
        "pfs bench --size 0",
        "pfs bench --transport tcp",
        "pfs bench /streamfs/cam",
        "pfs bench-worker",
        "pfs frobnicate",
        "pfs",
    ] {
        refused(line);
    }
}

#[test]
fn color_is_found_anywhere_even_on_an_invalid_command_line() {
    for (line, choice) in [
        ("pfs", ColorChoice::Auto),
        ("pfs --color always --help", ColorChoice::Always),
        ("pfs ls --color=never", ColorChoice::Never),
        ("pfs frobnicate --color=always", ColorChoice::Always),
        ("pfs --color sometimes ls", ColorChoice::Auto),
        ("pfs ls --color", ColorChoice::Auto),
        ("pfs ls --colors=always", ColorChoice::Auto),
        ("pfs write /s/a -- ls --color always", ColorChoice::Auto),
    ] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert_eq!(color(&words), choice, "{line}");
    }
}

#[test]
fn every_command_and_every_flag_has_help() {
    let mut pfs = Cli::command();
    pfs.build();
    for command in pfs.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        let examples = command.get_after_help().unwrap_or_else(|| panic!("{name}")).to_string();
        assert!(examples.contains(&format!("pfs {name}")), "{name}: {examples}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
        }
    }
}
