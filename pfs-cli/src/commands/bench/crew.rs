//! Worker processes of a measurement: starting them, and reading their messages.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail};

use super::job::{COMMAND, Job, Role, Said};
use crate::{
    exit_code::{ExitCode, Failure},
    place::Place,
};

/// A child process with a job. Killed when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its name in messages.
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a worker for this job, with the daemon at `place`.
    pub(super) fn start(name: String, job: &Job, place: &Place) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find the pfs executable")?;
        let mut command = Command::new(own);
        command.arg(COMMAND).arg(serde_json::to_string(job)?);
        for variable in Place::VARIABLES {
            command.env_remove(variable);
        }
        command.envs(place.variables());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if job.role == Role::Remover {
            // A process group of its own, so that Ctrl-C at the terminal does not kill the remover:
            // it must clean up then.
            command.process_group(0);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(
            child.stdout.take().context("the standard output of the worker is not a pipe")?,
        );
        Ok(Self { name, child, stdin, stdout })
    }

    /// Tells the worker to begin.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let said = self.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        said.transpose().with_context(|| format!("{} has ended", self.name))?;
        Ok(())
    }

    /// Waits for the worker's next message. Returns an error if the worker has failed.
    pub(super) fn listen(&mut self) -> anyhow::Result<Said> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .with_context(|| format!("cannot read from {}", self.name))?;
        if line.is_empty() {
            bail!("{} ended early ({})", self.name, self.child.wait()?);
        }
        match serde_json::from_str(&line)
            .with_context(|| format!("{} sent the invalid line {line:?}", self.name))?
        {
            Said::Failed { code, message } => {
                let code = ExitCode::from_number(code).unwrap_or(ExitCode::Failure);
                Err(Failure::new(code, format!("{}: {message}", self.name)).into())
            }
            said => Ok(said),
        }
    }

    /// Waits until the worker is attached. Returns true if it shares memory with the daemon.
    pub(super) fn attached(&mut self) -> anyhow::Result<bool> {
        match self.listen()? {
            Said::Ready { shm } => Ok(shm),
            said => bail!("{} sent {said:?} before it was attached", self.name),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors are ignored: a process that has exited cannot be killed, and nothing can be done
        // about one that cannot be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Worker that removes the stream when this process ends, even if it is killed.
#[derive(Debug)]
pub(super) struct Remover(Worker);

impl Remover {
    pub(super) fn start(path: &str, place: &Place) -> anyhow::Result<Self> {
        let job = Job { path: path.to_owned(), shm: false, chunk: 0, role: Role::Remover };
        Ok(Self(Worker::start(format!("the process that removes {path}"), &job, place)?))
    }

    /// Tells the remover that the stream exists and must be removed.
    pub(super) fn arm(&mut self) -> anyhow::Result<()> {
        self.0.begin()
    }

    /// Lets the remover remove the stream, and waits for it.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.0.stdin = None;
        let status =
            self.0.child.wait().with_context(|| format!("cannot wait for {}", self.0.name))?;
        if status.success() { Ok(()) } else { self.0.listen().map(|_| ()) }
    }
}
