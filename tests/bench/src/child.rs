//! Child processes: started, measured, and killed at the end.

use std::{
    fs,
    io::{self, Read},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use pfs_measure::{clock, process};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{job::Job, sys};

/// Time limit for a process to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running process. Dropping a `Running` kills the process.
pub struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts a process. It dies together with this process, however this one ends.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child =
            sys::die_together(command).spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child })
    }

    /// Takes the standard input, if it is a pipe.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Takes the standard output, if it is a pipe.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns the processor time that the process has used. Works after its end too.
    pub fn cpu(&self) -> Duration {
        process::cpu_time(self.child.id()).unwrap_or_default()
    }

    /// Returns the current and the peak resident memory, in bytes, shared pages included.
    pub fn memory(&self) -> (u64, u64) {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let field = |name| field(name).unwrap_or(0) * 1024;
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Returns an error if the process has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended early: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Returns an error if the process has failed.
    pub fn check_failure(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => bail!("{} failed: {status}", self.name),
            _ => Ok(()),
        }
    }

    /// Returns true if the process has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until the process ends. Returns an error unless it succeeded.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("{} failed: {status}", self.name) }
    }

    /// Sends SIGTERM and waits until the process ends, with any status. Returns the time that took.
    pub fn terminate(&mut self) -> anyhow::Result<Duration> {
        self.check()?;
        let (began, patience) = (clock::now(), clock::after(PATIENCE));
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while !self.has_ended() {
            ensure!(clock::now() < patience, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Duration::from_nanos(clock::now() - began))
    }

    /// Reads standard output to its end and parses it as a report.
    pub fn report<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut text = String::new();
        self.stdout().context("its output is not ours")?.read_to_string(&mut text)?;
        serde_json::from_str(&text)
            .with_context(|| format!("a process of {} gave no report", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Builds the command that runs this program in another role.
pub fn role(name: &str, job: &Job) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name).arg(serde_json::to_string(job)?);
    Ok(command)
}
