//! The man pages and completions in the repository match the command-line definitions.
//!
//! `PFS_REGENERATE=1 cargo test -p pfs-cli --test generated` generates them again.

// Clippy recognizes tests by their attribute, which these helpers lack.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};
use pfs_cli::{cli::Cli, exit_code::ExitCode};

fn checked_in(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory)
}

/// Compares the files of a directory with the generated ones, or writes them.
fn compare(directory: &str, files: &BTreeMap<String, Vec<u8>>) {
    let directory = checked_in(directory);
    if std::env::var_os("PFS_REGENERATE").is_some_and(|value| value == "1") {
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
    }
    let stale: Vec<&str> = files
        .iter()
        .filter(|(name, content)| fs::read(directory.join(name)).ok().as_ref() != Some(*content))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        stale.is_empty(),
        "{} is not what the definitions say: {stale:?}; run PFS_REGENERATE=1 cargo test -p pfs-cli --test generated",
        directory.display()
    );
}

#[test]
fn the_man_pages_match_the_definitions() {
    let mut pfs = Cli::command();
    pfs.build();
    // `pfs help` prints these pages, so it has no page of its own.
    let pfs = pfs.mut_subcommand("help", |help| help.hide(true));
    let mut pages = BTreeMap::from([("pfs.1".to_owned(), page(&pfs))]);
    for command in pfs.get_subcommands().filter(|command| command.get_name() != "help") {
        let page = page(&command.clone());
        pages.insert(format!("pfs-{}.1", command.get_name()), page);
    }
    // Without this check, the page of a removed command would stay for ever.
    for entry in fs::read_dir(checked_in("man")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            pages.contains_key(&name) || !name.starts_with("pfs-"),
            "{name} is the page of no command"
        );
    }
    compare("man", &pages);
}

#[test]
fn the_completions_match_the_definitions() {
    let mut files = BTreeMap::new();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pfs", &mut script);
        let name = match shell {
            Shell::Zsh => "_pfs".to_owned(),
            Shell::Fish => "pfs.fish".to_owned(),
            _ => "pfs.bash".to_owned(),
        };
        files.insert(name, script);
    }
    compare("completions", &files);
}

/// Generates one page, with the sections in the order in which readers look for them.
fn page(command: &Command) -> Vec<u8> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man =
        Man::new(command.clone()).manual("pfs").source(concat!("pfs ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    synopsis(command).to_writer(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page).unwrap();
    }
    man.render_options_section(&mut page).unwrap();
    for section in [exit_status(), environment(), example_lines(&examples), see_also(command)] {
        section.to_writer(&mut page).unwrap();
    }
    page
}

/// Generates the synopsis: flags and arguments with the names of their values. Global options are
/// left to the section on options.
fn synopsis(command: &Command) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or("pfs"))];
    let value = |argument: &Arg| {
        argument
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
        if argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version") {
            continue;
        }
        let name = match (argument.get_short(), argument.get_long()) {
            (Some(short), _) => format!("-{short}"),
            (None, long) => format!("--{}", long.unwrap_or_default()),
        };
        line.extend([roman(" ["), bold(name)]);
        if argument.get_action().takes_values() {
            line.extend([roman(" "), italic(value(argument))]);
        }
        line.push(roman("]"));
    }
    for argument in command.get_positionals() {
        let many = if argument.get_num_args().is_some_and(|count| count.max_values() > 1) {
            "..."
        } else {
            ""
        };
        let (open, close) = if argument.is_required_set() { ("", "") } else { ("[", "]") };
        line.extend([
            roman(format!(" {open}")),
            italic(value(argument)),
            roman(format!("{many}{close}")),
        ]);
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    let mut section = Roff::new();
    // No hyphenation: a flag that is broken by a hyphen looks like another flag.
    section.control("SH", ["SYNOPSIS"]).control("nh", []).control("ad", ["l"]).text(line);
    section.control("hy", []).control("ad", ["b"]);
    section
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in ExitCode::TABLE {
        section.control("TP", ["6"]).text([bold(code.number().to_string())]).text([roman(meaning)]);
    }
    section.control("TP", ["6"]).text([bold("130, 143")]);
    section.text([roman(
        "Ended by SIGINT or SIGTERM. When nobody reads standard output any more, pfs ends quietly: with 0, or with the failure \
         that was known before.",
    )]);
    section
}

fn environment() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in pfs_cli::examples::ENVIRONMENT {
        section.control("TP", []).text([bold(name)]).text([roman(meaning)]);
    }
    section
}

/// Formats the examples of the help: a line indented by two spaces is a command, one indented by
/// six explains it.
fn example_lines(examples: &str) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXAMPLES"]);
    for line in examples.lines().skip(1) {
        match line.strip_prefix("      ") {
            Some(explanation) => section.text([roman(explanation)]),
            None => section.control("TP", []).text([bold(line.trim_start())]),
        };
    }
    section
}

fn see_also(command: &Command) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["SEE ALSO"]);
    let mut pages: Vec<String> = vec!["pfsd(1)".to_owned()];
    if command.has_subcommands() {
        let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
        pages.extend(commands.map(|command| format!("pfs-{}(1)", command.get_name())));
    } else {
        pages.push("pfs(1)".to_owned());
    }
    pages.sort();
    section.text([roman(pages.join(", "))]);
    section
}
