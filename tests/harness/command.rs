//! A command line of `pfs`, built up and then run.

use std::{
    ffi::OsStr,
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::geteuid;

use crate::{Cgroup, Running, Terminal, Transport, binary, skip};

/// What the command reads and where its output goes, until it is started.
pub struct Pfs {
    command: Command,
    input: Input,
    output: Output,
    errors: Errors,
}

pub(crate) enum Errors {
    Kept,
    Given,
}

pub(crate) enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Pipe,
    Given,
}

pub(crate) enum Output {
    Kept,
    Pipe,
    Given,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; for a process that a signal ended, 128 + signal, as a shell has it.
    pub code: i32,
    /// What it wrote to stdout, empty if that went through a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Pfs {
    /// `pfs` as it is, over the default transport.
    pub fn usual() -> Self {
        Self::on(Transport::Shm)
    }

    /// `pfs`, over this transport.
    pub fn on(transport: Transport) -> Self {
        Self::new(binary("pfs")).args(transport.flag())
    }

    /// `pfs` as a user of that runtime folder calls it: it may start a daemon, whose socket is
    /// there.
    pub fn for_user(runtime_dir: &Path) -> Self {
        Self::usual().may_start_daemon(runtime_dir)
    }

    /// It, and what it runs, may start a daemon, whose socket is in that runtime folder.
    pub fn may_start_daemon(self, runtime_dir: &Path) -> Self {
        let user = self.env("XDG_RUNTIME_DIR", runtime_dir).without("PFS_AUTOSTART");
        // A daemon that somebody uses on this machine would be found, and none would be started.
        let uid = geteuid();
        let places =
            [format!("/run/user/{uid}/pfs"), format!("/tmp/pfs-{uid}"), "/run/pfs".to_owned()];
        let places: Vec<String> =
            places.into_iter().filter(|place| Path::new(place).exists()).collect();
        if places.is_empty() {
            return user;
        }
        let mut hiding = Command::new("unshare");
        hiding.arg("--mount");
        if !uid.is_root() {
            hiding.arg("--map-current-user").arg("--keep-caps");
        }
        let line = "for place in $0; do mount -t tmpfs none \"$place\"; done; exec \"$@\"";
        hiding.args(["sh", "-c", line]).arg(places.join(" "));
        user.wrapped(hiding)
    }

    /// What a user types into a shell.
    pub fn shell(line: &str) -> Self {
        Self::new("sh").arg("-c").arg(line)
    }

    /// Any command. It gets no variable of ours from the environment and starts no daemon by
    /// itself.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PFS") {
                command.env_remove(name);
            }
        }
        command.env("PFS_AUTOSTART", "0").env_remove("XDG_RUNTIME_DIR").env_remove("RUST_LOG");
        // Colors are what a test says, not what the terminal of its caller says.
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        Self { command, input: Input::Nothing, output: Output::Kept, errors: Errors::Kept }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The folder to run in.
    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Stdin is a pipe that gives these bytes and then ends.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Stdin is a pipe that the test writes with [`Running::send`] and ends with
    /// [`Running::end_input`].
    pub fn stdin_pipe(mut self) -> Self {
        self.input = Input::Pipe;
        self
    }

    /// Stdin is this file.
    pub fn stdin_file(self, path: &Path) -> Self {
        self.stdin_from(File::open(path).expect("the test's own file"))
    }

    /// Stdin is what this gives, such as the stdout of another process.
    pub fn stdin_from(mut self, source: impl Into<Stdio>) -> Self {
        self.command.stdin(source);
        self.input = Input::Given;
        self
    }

    /// Stdout is a pipe that the test takes with [`Running::take_stdout`]; otherwise it is kept.
    pub fn stdout_pipe(mut self) -> Self {
        self.output = Output::Pipe;
        self
    }

    /// Stdout goes there.
    pub fn stdout_into(mut self, target: impl Into<Stdio>) -> Self {
        self.command.stdout(target);
        self.output = Output::Given;
        self
    }

    /// Started by a shell with this redirection, such as `>&-`, which closes stdout: std always
    /// gives a child all three standard descriptors.
    pub fn redirected(self, redirection: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirection}"));
        self.wrapped(shell)
    }

    /// In this control group from its first instruction on.
    pub fn in_cgroup(self, group: &Cgroup) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(group.processes());
        self.wrapped(shell)
    }

    /// Stdin, stdout and stderr are this terminal. It is the controlling one of a session of the
    /// command's own, so that the command gets the signals of keys.
    pub fn on_terminal(self, terminal: &Terminal) -> Self {
        let mut session = Command::new("setsid");
        session.arg("--ctty");
        self.wrapped(session).env("TERM", "xterm").attached(terminal)
    }

    /// Likewise, below a shell that is the first process of a PID namespace and has its session
    /// outside of it, as some build services have it. `None`, after a line that says so, where
    /// this process may make no namespaces.
    pub fn on_terminal_in_pid_namespace(self, terminal: &Terminal) -> Option<Self> {
        let mut namespace = Command::new("unshare");
        namespace.args(["--pid", "--fork", "--kill-child"]);
        if !geteuid().is_root() {
            namespace.arg("--map-root-user");
        }
        namespace.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
        let tried =
            Command::new(namespace.get_program()).args(namespace.get_args()).arg("true").output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            return Some(self.on_terminal(terminal).wrapped(namespace).attached(terminal));
        }
        skip("this process may not have processes of its own (unshare --pid)");
        None
    }

    fn attached(mut self, terminal: &Terminal) -> Self {
        self.command.stdin(terminal.end()).stdout(terminal.end()).stderr(terminal.end());
        Self { input: Input::Given, output: Output::Given, errors: Errors::Given, ..self }
    }

    /// Started by this command, as its last arguments.
    fn wrapped(mut self, mut by: Command) -> Self {
        by.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => by.env(name, value),
                None => by.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            by.current_dir(folder);
        }
        self.command = by;
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(self) -> Running {
        Running::start(self.command, self.input, self.output, self.errors)
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.spawn().finish()
    }
}

impl Finished {
    /// Checks the exit code, and shows the run if it is another one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "exit code; stderr: {}\nstdout begins: {:?}",
            self.stderr,
            String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(400)]),
        );
        self
    }

    /// Checks that stderr contains `part`, in any case of letters.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let stderr = self.stderr.to_lowercase();
        assert!(
            stderr.contains(&part.to_lowercase()),
            "nothing of {part:?} in stderr: {}",
            self.stderr
        );
        self
    }

    /// Checks that stderr is empty.
    #[track_caller]
    pub fn quietly(self) -> Self {
        assert_eq!(self.stderr, "", "stderr of a run that has nothing to say");
        self
    }

    /// Stdout as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }
}
