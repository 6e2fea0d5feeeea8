//! The pages in `docs` whose commands are pasted, line by line, into a shell of a machine of its own.
//!
//! In a block of commands, a line that begins with `# ` is the output of the commands before it. Times
//! and sizes in it are those of one run.

use std::{
    fs::{File, read_to_string},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use harness::{binary, eventually};

/// Gives the shell a network, a `/run` with the programs, which may be below `/tmp`, and a `/tmp` of
/// its own.
const MACHINE: &str = "set -e; ip link set lo up; mount -t tmpfs tmpfs /run; mkdir /run/programs; \
    mount --bind \"$PROGRAMS\" /run/programs; mount -t tmpfs tmpfs /tmp; cd /tmp; exec bash";

/// The commands of a page, and the output that the page shows.
fn commands(page: &str) -> (Vec<&str>, Vec<&str>) {
    let mut lines = Vec::new();
    let mut is_code = false;
    for line in page.lines() {
        match line {
            "```sh" => is_code = true,
            "```" => is_code = false,
            _ if is_code => lines.push(line),
            _ => {}
        }
    }
    let (shown, commands): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.starts_with("# "));
    (commands, shown.into_iter().filter_map(|line| line.strip_prefix("# ")).collect())
}

/// The line without its numbers and their units, if it has times or sizes, which differ in each run.
fn masked(line: &str) -> String {
    let is_measured = [" ms", " bytes"].iter().any(|unit| line.contains(unit));
    let units = ["B", "KiB", "MiB", "ms", "s"];
    let is_number = |word: &&str| {
        let word = word.trim_end_matches([',', ';', 's']).trim_start_matches('(');
        word.is_empty() || units.contains(&word) || word.chars().all(|c| ".0123456789".contains(c))
    };
    let words = line.split(' ').filter(|word| !is_measured || !is_number(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Pastes all commands of a page, and compares the output with that of the page.
fn follow(page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let page = read_to_string(&file).unwrap();
    let (commands, shown) = commands(&page);
    let folder = tempfile::tempdir().unwrap();
    let [out, log] = ["out", "log"].map(|name| folder.path().join(name));
    let programs = binary("pfsd").parent().map(PathBuf::from).unwrap();
    let path = format!("/run/programs:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc", "bash"])
        .args(["-c", MACHINE])
        .env("PROGRAMS", programs)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut keyboard = shell.stdin.take().unwrap();
    let mut daemons = 0;
    for line in commands {
        writeln!(keyboard, "{line}").unwrap();
        // A person does not type faster than a daemon starts.
        daemons += usize::from(line.contains("pfsd --"));
        eventually("the daemon serves", || {
            read_to_string(&log).unwrap().matches("serving socket").count() >= daemons
        });
    }
    drop(keyboard);
    assert!(shell.wait().unwrap().success(), "{}", read_to_string(&log).unwrap());
    let printed = read_to_string(&out).unwrap();
    let [printed_lines, shown] =
        [printed.lines().map(masked).collect::<Vec<_>>(), shown.into_iter().map(masked).collect()];
    assert_eq!(printed_lines, shown, "{printed}\n{}", read_to_string(&log).unwrap());
}

#[test]
#[ignore = "needs root, ip and ffmpeg: scripts/machines"]
fn every_command_about_many_machines_does_what_the_page_says() {
    follow("many-machines.md");
}
