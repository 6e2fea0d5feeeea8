//! Builder for a command line of `pfs`, or of any other program, that a test runs.

use std::{
    ffi::OsStr,
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::geteuid;

use crate::{Cgroup, Running, Terminal, Transport, binary, skip};

/// Command that has not been started, with its stdin, stdout and stderr.
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

/// Result of a process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 + signal for a process that a signal ended, as in a shell.
    pub code: i32,
    /// Stdout; empty if stdout was a pipe.
    pub stdout: Vec<u8>,
    /// Stderr.
    pub stderr: String,
}

impl Pfs {
    /// `pfs` with the default transport.
    pub fn usual() -> Self {
        Self::on(Transport::Shm)
    }

    /// `pfs` with this transport.
    pub fn on(transport: Transport) -> Self {
        Self::new(binary("pfs")).args(transport.flag())
    }

    /// `pfs` as a user with this runtime folder runs it: it may start a daemon, with its socket in
    /// that folder.
    pub fn for_user(runtime_dir: &Path) -> Self {
        Self::usual().may_start_daemon(runtime_dir)
    }

    /// Lets the command and its children start a daemon, with its socket in this runtime folder.
    pub fn may_start_daemon(self, runtime_dir: &Path) -> Self {
        let user = self.env("XDG_RUNTIME_DIR", runtime_dir).without("PFS_AUTOSTART");
        // Hide the usual socket folders of this machine. Otherwise `pfs` would find a daemon that
        // is in use there and start none.
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

    /// A line for the shell, as a user types it.
    pub fn shell(line: &str) -> Self {
        Self::new("sh").arg("-c").arg(line)
    }

    /// Any program. The command inherits no `PFS*` variables and may not start a daemon.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PFS") {
                command.env_remove(name);
            }
        }
        command.env("PFS_AUTOSTART", "0").env_remove("XDG_RUNTIME_DIR").env_remove("RUST_LOG");
        // The test decides about colors, not the terminal from which the tests are run.
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        Self { command, input: Input::Nothing, output: Output::Kept, errors: Errors::Kept }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Makes stdin a pipe that delivers `bytes` and then ends.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Makes stdin a pipe: the test writes to it with [`Running::send`] and closes it
    /// with [`Running::end_input`].
    pub fn stdin_pipe(mut self) -> Self {
        self.input = Input::Pipe;
        self
    }

    /// Reads stdin from this file.
    pub fn stdin_file(self, path: &Path) -> Self {
        self.stdin_from(File::open(path).expect("the test's own file"))
    }

    /// Reads stdin from `source`, such as the stdout of another process.
    pub fn stdin_from(mut self, source: impl Into<Stdio>) -> Self {
        self.command.stdin(source);
        self.input = Input::Given;
        self
    }

    /// Makes stdout a pipe, which the test takes with [`Running::take_stdout`]. By default stdout
    /// goes to a file.
    pub fn stdout_pipe(mut self) -> Self {
        self.output = Output::Pipe;
        self
    }

    /// Sends stdout to `target`.
    pub fn stdout_into(mut self, target: impl Into<Stdio>) -> Self {
        self.command.stdout(target);
        self.output = Output::Given;
        self
    }

    /// Starts the command through a shell with this redirection, such as `>&-` to close stdout. The
    /// standard library cannot do that: it always gives a child all three standard descriptors.
    pub fn redirected(self, redirection: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirection}"));
        self.wrapped(shell)
    }

    /// Runs the command in this control group from its first instruction on.
    pub fn in_cgroup(self, group: &Cgroup) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(group.processes());
        self.wrapped(shell)
    }

    /// Makes this terminal stdin, stdout and stderr, and the controlling terminal of a new session,
    /// so that keys such as Ctrl-C signal the command.
    pub fn on_terminal(self, terminal: &Terminal) -> Self {
        let mut session = Command::new("setsid");
        session.arg("--ctty");
        self.wrapped(session).env("TERM", "xterm").attached(terminal)
    }

    /// Like [`on_terminal`](Self::on_terminal), but below a shell that is process 1 of a PID
    /// namespace while its session is outside of the namespace, as on some build services. Returns
    /// `None`, and reports the test as skipped, if this process may not create namespaces.
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

    /// Prepends the command line `by`: `by` gets this command as its last arguments.
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

    /// Starts the command.
    #[track_caller]
    pub fn spawn(self) -> Running {
        Running::start(self.command, self.input, self.output, self.errors)
    }

    /// Starts the command and waits until it ends.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.spawn().finish()
    }
}

impl Finished {
    /// Checks the exit code. The panic message shows stderr and the start of stdout.
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

    /// Checks that stderr contains `part`, ignoring case.
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

    /// Returns stdout as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }
}
