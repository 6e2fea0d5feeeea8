//! Running child process, which is killed if the test ends first.

use std::{
    fs::File,
    io::Write as _,
    os::unix::{fs::FileExt as _, process::ExitStatusExt as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    Digest, Finished, Signal,
    command::{Errors, Input, Output},
    deadline, digest_of_stream, eventually, kill, own,
    process::stands_still,
};

/// Child process that was started and has not been waited for.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    // Unnamed files instead of pipes: a slow reader of a pipe could slow the process down or
    // deadlock with it.
    kept: File,
    stderr: File,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(
        mut command: Command,
        input: Input,
        output: Output,
        errors: Errors,
    ) -> Self {
        let kept = tempfile::tempfile().expect("a temporary file");
        let stderr = tempfile::tempfile().expect("a temporary file");
        match input {
            Input::Nothing => command.stdin(Stdio::null()),
            Input::Bytes(_) | Input::Pipe => command.stdin(Stdio::piped()),
            Input::Given => &mut command,
        };
        match output {
            Output::Kept => command.stdout(kept.try_clone().expect("a file can be shared")),
            Output::Pipe => command.stdout(Stdio::piped()),
            Output::Given => &mut command,
        };
        if let Errors::Kept = errors {
            command.stderr(stderr.try_clone().expect("a file can be shared"));
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let mut stdin = child.stdin.take();
        let stdout = child.stdout.take();
        if let Input::Bytes(bytes) = input {
            let mut pipe = stdin.take().expect("stdin is a pipe");
            // The process may end before it has read everything. It reports the reason itself; the
            // test checks that report.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Self { child, stdin, stdout, kept, stderr }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Private memory of the process, in bytes.
    pub fn memory(&self) -> u64 {
        own(self.pid())
    }

    /// Sends a signal. With [`Signal::STOP`], waits until all threads have stopped: the kernel
    /// stops them one after the other, which takes a while on busy processors.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
        if signal == Signal::STOP {
            eventually("it stands still", || stands_still(self.pid()));
        }
    }

    /// Writes to stdin.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is an open pipe");
        stdin
            .write_all(bytes)
            .unwrap_or_else(|e| panic!("write to stdin: {e}; stderr: {}", self.stderr()));
    }

    /// Writes to stdin. Returns false if the process no longer reads.
    #[track_caller]
    pub fn offer(&mut self, bytes: &[u8]) -> bool {
        self.stdin.as_mut().expect("stdin is an open pipe").write_all(bytes).is_ok()
    }

    /// Closes stdin.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Takes the write end of stdin.
    #[track_caller]
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is an open pipe")
    }

    /// Returns the write end that was [taken](Self::take_stdin), so that [`finish`](Self::finish)
    /// closes it.
    pub fn put_stdin(&mut self, stdin: ChildStdin) {
        self.stdin = Some(stdin);
    }

    /// Takes the read end of stdout.
    #[track_caller]
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.stdout.take().expect("stdout is a pipe and was not taken before")
    }

    /// Starts a thread that reads stdout to its end and returns the digest.
    #[track_caller]
    pub fn digest_stdout(&mut self) -> JoinHandle<Digest> {
        let stdout = self.take_stdout();
        std::thread::spawn(move || digest_of_stream(stdout))
    }

    /// Returns stdout so far, if it goes to a file.
    pub fn stdout(&self) -> Vec<u8> {
        contents(&self.kept)
    }

    /// Returns the length of stdout so far, if it goes to a file.
    pub fn stdout_len(&self) -> u64 {
        self.kept.metadata().expect("an open file").len()
    }

    /// Returns stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&contents(&self.stderr)).into_owned()
    }

    /// Returns true if the process is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Closes stdin and waits until the process ends.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.stdin = None;
        self.finish_with_input()
    }

    /// Waits until the process ends, without closing stdin.
    #[track_caller]
    pub fn finish_with_input(mut self) -> Finished {
        assert!(
            self.ends_within(deadline()),
            "process {} still runs; stderr: {}",
            self.pid(),
            self.stderr()
        );
        let status = self.child.wait().expect("our own child");
        let code = status
            .code()
            .or(status.signal().map(|signal| 128 + signal))
            .expect("a code or a signal");
        Finished { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Returns true if the process has ended or ends within `limit`.
    fn ends_within(&mut self, limit: Duration) -> bool {
        if !self.runs() {
            return true;
        }
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .expect("a child not waited for");
        let limit = Timespec::try_from(limit).expect("no eternity");
        loop {
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) {
                Err(Errno::INTR) => {}
                ready => return ready.expect("a process can be waited for") == 1,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contents(file: &File) -> Vec<u8> {
    // Read by position, because the process that writes the file shares its file offset.
    let len = file.metadata().expect("an open file").len();
    let mut bytes = vec![0; usize::try_from(len).expect("it fits the memory")];
    file.read_exact_at(&mut bytes, 0).expect("an open file");
    bytes
}
