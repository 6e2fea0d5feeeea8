//! Documentation test: pastes the shell lines of a page into one shell and compares their output
//! with the page.
//!
//! A line is complete in itself, or ends with `<<END` and continues to a line `END`. Comments below
//! a line are its expected output; without comments, any output is accepted. Each line must exit
//! with 0: a line that shows another exit code prints the code.

use std::{
    fs::{self, create_dir_all},
    path::Path,
};

use harness::{Autostarted, Pfs, address_of_its_own, binary, folder, skip};
use tempfile::tempdir;

pub(crate) const README: &str = "README.md";
pub(crate) const MOVING: &str = "docs/moving.md";
const HTTP: &str = "docs/http.md";
const SCRIPTING: &str = "docs/scripting.md";
const CONFIGURATION: &str = "docs/configuration.md";

/// Prefixes of README lines that are not run here, with the reason.
const NOT_RUN: [(&str, &str); 3] = [
    ("scripts/demo", "it builds a release"),
    ("scripts/test", "it runs this test"),
    ("cargo install", "it builds a release and installs it"),
];

/// HTTP address of the daemon in the pages. The test replaces it with an address of its own.
pub(crate) const ADDRESS: &str = "127.0.0.1:4437";

/// Runtime directory in the pages.
const RUNTIME: &str = "/run/user/1000";

/// Directories of the shell, in the folder of the test.
const HOME: &str = "home";
const XDG: &str = "run";

/// Line of a page, and its expected output.
#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    prints: Vec<String>,
}

#[test]
fn every_shell_line_of_readme_works_and_prints_the_output_shown_below_it() {
    let without_ffmpeg = Pfs::shell("command -v ffmpeg").run().code != 0;
    if without_ffmpeg {
        skip("ffmpeg is missing: README's lines with it are left out (scripts/programs runs them)");
    }
    for (begin, why) in NOT_RUN {
        let is_there = shell_lines(README).iter().any(|line| line.text.starts_with(begin));
        assert!(is_there, "README has no line any more that is not run: {begin} ({why})");
    }
    paste(README, |line| {
        !(without_ffmpeg && (line.contains("ffmpeg ") || line.contains("/streamfs/cam")))
    });
}

#[test]
fn every_shell_line_of_the_migration_guide_works_and_prints_the_output_shown_below_it() {
    paste(MOVING, |_| true);
}

#[test]
fn every_shell_line_of_the_scripting_page_works_and_prints_the_output_shown_below_it() {
    paste(SCRIPTING, |_| true);
}

#[test]
fn every_shell_line_of_the_http_page_works_and_prints_the_output_shown_below_it() {
    paste(HTTP, |_| true);
}

/// Pastes the lines of the page that `is_run` accepts into one shell of a user without any files
/// or daemon.
pub(crate) fn paste(page: &str, is_run: impl Fn(&str) -> bool) {
    let all = shell_lines(page);
    let is_excepted = |line: &&Line| NOT_RUN.iter().any(|(begin, _)| line.text.starts_with(begin));
    let lines: Vec<&Line> =
        all.iter().filter(|line| !is_excepted(line) && is_run(&line.text)).collect();

    let work = tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    for name in [HOME, XDG, "tmp", "output"] {
        create_dir_all(at(name)).unwrap();
    }
    let address = format!("{}:4437", address_of_its_own().ip());
    let pasted: String =
        lines.iter().map(|line| line.text.replace(ADDRESS, &address) + "\n").collect();
    let path = format!("{}:{}", folder().display(), std::env::var("PATH").unwrap());
    let _daemon = Autostarted::for_user(&at(XDG));
    // An interactive shell runs this after each complete command, and keeps $? and PIPESTATUS for
    // the next one. A command that reads stdin consumes the following lines, as on a terminal. The
    // shell exits after a line that failed, because later lines might hang.
    let after_each = "code=$?; echo $code >> \"$OUTPUT/codes\"; echo \"lines that have ended: ${LINE-0}\" >&9; \
                      [ $code = 0 ] || exit; exec > \"$OUTPUT/$((++LINE))\" 2>&1";
    Pfs::new("bash")
        .args(["--noprofile", "--norc", "--noediting", "-i"])
        .redirected("9>&2")
        .may_start_daemon(&at(XDG))
        .env("HOME", at(HOME))
        .env("TMPDIR", at("tmp"))
        .env("OUTPUT", at("output"))
        .env("PS1", "")
        .env("PS2", "")
        .env("PROMPT_COMMAND", after_each)
        .env("HISTFILE", "/dev/null")
        .env("PATH", path)
        .current_dir(&at(HOME))
        .stdin(pasted)
        .run();

    // The first code is from the start of the shell.
    let codes = fs::read_to_string(at("output/codes")).unwrap();
    let codes: Vec<&str> = codes.lines().skip(1).collect();
    let said = |index: usize| {
        fs::read_to_string(at("output").join((index + 1).to_string())).unwrap_or_default()
    };
    for (index, line) in lines.iter().enumerate() {
        let said =
            said(index).replace(at(XDG).to_str().unwrap(), RUNTIME).replace(&address, ADDRESS);
        let context = format!("{page}:{}: {}\nprints:\n{said}", line.number, line.text);
        assert_eq!(codes.get(index), Some(&"0"), "exit code of {context}");
        // Without the shell's own messages about its jobs.
        let said: Vec<&str> = said.lines().filter(|said| !said.starts_with('[')).collect();
        assert!(
            line.prints.is_empty() || is_same(&said, &line.prints),
            "{context}\nand not:\n{:#?}",
            line.prints
        );
    }
    assert_eq!(codes.len(), lines.len(), "each line is complete in itself");
}

#[test]
fn the_daemon_accepts_the_documented_configuration() {
    let page = text(CONFIGURATION);
    let work = tempdir().unwrap();
    let config = work.path().join("pfsd.toml");
    let toml: Vec<&str> = blocks(&page, "toml").map(|(_, line)| line).collect();
    assert!(!toml.is_empty());
    fs::write(&config, toml.join("\n")).unwrap();
    Pfs::new(binary("pfsd")).arg("--check-config").arg("--config").arg(&config).run().exits(0);
}

/// Reads a page.
fn text(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).unwrap()
}

/// Returns the lines of all code blocks in this language, with their line numbers.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let mut is_inside = false;
    (1..).zip(text.lines()).filter(move |(_, line)| match line.strip_prefix("```") {
        Some(fence) => {
            is_inside = fence == language;
            false
        }
        None => is_inside,
    })
}

/// Returns the only code block in this language.
pub(crate) fn block(page: &str, language: &str) -> String {
    let text = text(page);
    let lines: Vec<&str> = blocks(&text, language).map(|(_, line)| line).collect();
    assert_eq!(
        text.matches(&format!("```{language}\n")).count(),
        1,
        "{page} has one block of {language}"
    );
    lines.join("\n") + "\n"
}

fn shell_lines(page: &str) -> Vec<Line> {
    let text = text(page);
    let mut lines: Vec<Line> = Vec::new();
    let mut is_inside_document = false;
    for (number, text) in blocks(&text, "sh") {
        match (text.strip_prefix("# "), lines.last_mut()) {
            (_, Some(line)) if is_inside_document => {
                line.text += "\n";
                line.text += text;
                is_inside_document = text != "END";
            }
            (Some(printed), Some(line)) => line.prints.push(printed.to_owned()),
            (Some(_), None) => panic!("{page}:{number}: nothing is above this that prints it"),
            (None, _) => {
                is_inside_document = text.ends_with("<<END");
                lines.push(Line { number, text: text.to_owned(), prints: Vec::new() });
            }
        }
    }
    assert!(!lines.is_empty(), "{page} has no block of sh");
    lines
}

/// Returns true if the output is the expected one, ignoring ages, and blanks, which depend on
/// the ages.
fn is_same(printed: &[&str], written: &[String]) -> bool {
    let is_age = |word: &str| {
        let unit = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        unit != word && ["ms", "s", "m", "h"].contains(&unit)
    };
    let words = |line: &str| -> Vec<String> {
        let word = |word: &str| if is_age(word) { "AGE".to_owned() } else { word.to_owned() };
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        words.dedup_by(|a, b| a == "AGE" && b == "AGE");
        words
    };
    printed.len() == written.len() && printed.iter().zip(written).all(|(a, b)| words(a) == words(b))
}
