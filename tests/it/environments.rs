//! The main commands with and without `HOME`, `XDG_RUNTIME_DIR`, a passwd entry, a terminal and
//! writable directories. All commands of a user reach the same daemon, or each reports why there is
//! none and what to do.

use harness::{Machine, Terminal};

const S: &str = "/streamfs/s";

const ROOT: u32 = 0;
/// User without a passwd entry.
const USER: u32 = 12_345;

/// Environment of a process.
struct Environment {
    user: u32,
    variables: &'static [(&'static str, &'static str)],
    /// Directories that the user owns.
    directories: &'static [&'static str],
    /// Directories that are read-only, besides the root.
    read_only: &'static [&'static str],
    /// The socket where the commands meet, or the messages that each of them prints.
    expected: Result<&'static str, &'static [&'static str]>,
}

const ENVIRONMENTS: [Environment; 14] = [
    // A login session, and a cron job beside it.
    Environment {
        user: ROOT,
        variables: &[("HOME", "/root"), ("XDG_RUNTIME_DIR", "/run/user/0")],
        directories: &["/run/user/0"],
        read_only: &[],
        expected: Ok("/run/user/0/pfs/pfsd.sock"),
    },
    Environment {
        user: ROOT,
        variables: &[("HOME", "/root")],
        directories: &["/run/user/0"],
        read_only: &["/tmp"],
        expected: Ok("/run/user/0/pfs/pfsd.sock"),
    },
    // Containers.
    Environment {
        user: ROOT,
        variables: &[],
        directories: &[],
        read_only: &["/run"],
        expected: Ok(OF_ROOT),
    },
    Environment {
        user: ROOT,
        variables: &[("HOME", "/missing"), ("XDG_RUNTIME_DIR", "/missing")],
        directories: &[],
        read_only: &[],
        expected: Ok(OF_ROOT),
    },
    Environment {
        user: ROOT,
        variables: &[("HOME", ""), ("XDG_RUNTIME_DIR", ""), ("TMPDIR", "/missing")],
        directories: &[],
        read_only: &[],
        expected: Ok(OF_ROOT),
    },
    Environment {
        user: ROOT,
        variables: &[("XDG_RUNTIME_DIR", "run/user/0")],
        directories: &[],
        read_only: &[],
        expected: Ok(OF_ROOT),
    },
    Environment {
        user: ROOT,
        variables: &[("XDG_RUNTIME_DIR", TOO_LONG)],
        directories: &[TOO_LONG],
        read_only: &[],
        expected: Ok(OF_ROOT),
    },
    Environment {
        user: ROOT,
        variables: &[("XDG_RUNTIME_DIR", "/run/own")],
        directories: &["/run/own"],
        read_only: &["/tmp"],
        expected: Ok("/run/own/pfs/pfsd.sock"),
    },
    Environment {
        user: ROOT,
        variables: &[("HOME", "/root")],
        directories: &[],
        read_only: &["/run", "/tmp"],
        expected: Err(&[
            "/run/user/0 does not exist",
            "cannot make the directory /tmp/pfs-0: read-only file system",
            "cannot make the directory /run/pfs: read-only file system",
        ]),
    },
    Environment {
        user: ROOT,
        variables: &[("XDG_RUNTIME_DIR", "/run/user/0")],
        directories: &["/run/user/0"],
        read_only: &["/run/user/0", "/tmp", "/run"],
        expected: Err(&["cannot make the directory /run/user/0/pfs: read-only file system"]),
    },
    // Users without a passwd entry.
    Environment {
        user: USER,
        variables: &[],
        directories: &[],
        read_only: &["/run"],
        expected: Ok(OF_USER),
    },
    Environment {
        user: USER,
        variables: &[("HOME", "/root"), ("XDG_RUNTIME_DIR", "/run/user/0")],
        directories: &[],
        read_only: &[],
        expected: Ok(OF_USER),
    },
    Environment {
        user: USER,
        variables: &[("XDG_RUNTIME_DIR", "/run/user/12345")],
        directories: &["/run/user/12345"],
        read_only: &["/tmp"],
        expected: Ok("/run/user/12345/pfs/pfsd.sock"),
    },
    Environment {
        user: USER,
        variables: &[],
        directories: &[],
        read_only: &["/tmp"],
        expected: Err(&[
            "/run/user/12345 does not exist",
            "cannot make the directory /tmp/pfs-12345: read-only file system",
            "/run belongs to user 0",
        ]),
    },
];

const OF_ROOT: &str = "/tmp/pfs-0/pfsd.sock";
const OF_USER: &str = "/tmp/pfs-12345/pfsd.sock";

/// Directory whose name is so long that the path of a socket in it exceeds the system's limit.
const TOO_LONG: &str = "/run/a-directory-of-which-the-name-alone-is-nearly-as-long-as-the-path-of-a-socket-may-be-on-linux";

impl Environment {
    fn machine(&self) -> Option<Machine> {
        let mut machine = if self.user == ROOT { Machine::new()? } else { Machine::with_users()? };
        for directory in self.directories {
            machine.directory(directory, self.user, 0o700);
        }
        for directory in self.read_only {
            machine.make_read_only(directory);
        }
        Some(machine)
    }

    /// Runs a command and returns its exit code and all its output.
    fn run(&self, machine: &Machine, terminal: bool, args: &[&str]) -> (i32, String) {
        let pfs = machine.pfs(self.user, self.variables).args(args);
        if terminal {
            let terminal = Terminal::open();
            let run = pfs.on_terminal(&terminal).run();
            return (run.code, terminal.all_shown());
        }
        let run = pfs.run();
        (run.code, format!("{}{}", run.text(), run.stderr))
    }
}

#[test]
fn in_every_environment_a_user_s_commands_share_one_daemon_or_say_what_to_do() {
    for (number, environment) in (1..).zip(&ENVIRONMENTS) {
        for terminal in [false, true] {
            let Some(machine) = environment.machine() else { continue };
            let run = |args: &[&str]| {
                let (code, said) = environment.run(&machine, terminal, args);
                (
                    code,
                    said.clone(),
                    format!(
                        "{args:?} in environment {number}, terminal: {terminal}: {code}: {said}"
                    ),
                )
            };
            match environment.expected {
                Ok(socket) => meet(&machine, socket, run),
                Err(reasons) => are_refused(&machine, reasons, run),
            }
        }
    }
}

/// Checks that the commands find one daemon, on this socket.
fn meet(machine: &Machine, socket: &str, run: impl Fn(&[&str]) -> (i32, String, String)) {
    // No daemon is running that could be asked or stopped.
    for args in [&["info"][..], &["stop"]] {
        let (code, said, context) = run(args);
        assert!(code == 5 && said.contains(socket) && said.contains("starts one"), "{context}");
    }
    for (args, part) in [
        (&["write", S, "--", "echo", "hello"][..], ""),
        (&["cat", "--until", "caught-up", S], "hello"),
        (&["ls"], S),
        (&["stat"], S),
        (&["info"], socket),
    ] {
        let (code, said, context) = run(args);
        assert!(code == 0 && said.contains(part), "{context}");
        assert_eq!(machine.sockets(), [socket], "{context}");
    }
    let pid = machine.daemon(socket).unwrap();
    let (code, said, context) = run(&["stop"]);
    assert!(
        code == 0 && said.contains(&format!("stopped pfsd (pid {pid}) on {socket}")),
        "{context}"
    );
    assert_eq!(machine.daemon(socket), None);
}

/// Checks that each command reports why there is no daemon and what to do.
fn are_refused(
    machine: &Machine,
    reasons: &[&str],
    run: impl Fn(&[&str]) -> (i32, String, String),
) {
    for args in
        [&["write", S, "--", "echo", "hello"][..], &["cat", "--stream", S], &["ls"], &["stat"]]
    {
        let (code, said, context) = run(args);
        assert_eq!(code, 5, "{context}");
        let said = said.to_lowercase();
        for part in reasons.iter().chain(&["set xdg_runtime_dir", "--socket"]) {
            assert!(said.contains(part), "nothing of {part:?}: {context}");
        }
    }
    for args in [&["info"][..], &["stop"]] {
        let (code, said, context) = run(args);
        assert!(code == 5 && said.contains("no daemon answers on "), "{context}");
    }
    assert!(machine.sockets().is_empty());
}
