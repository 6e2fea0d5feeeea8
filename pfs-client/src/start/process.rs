//! Daemon process: spawns the daemon with its own session and descriptors, and reaps it.
//!
//! Descriptor inheritance: the daemon outlives the program that starts it. Descriptors that the
//! program inherited, or opened for its children, must not stay open in the daemon: for example a
//! pipe whose reader waits for the end, or a lock file. The program's own descriptors stay
//! unchanged, because the program may intend them for other children. So the child process marks
//! the descriptors, between fork and exec. They are marked close-on-exec rather than closed,
//! because the standard library reports a failed exec over one of them.
//!
//! # Safety
//!
//! Between fork and exec, the child runs only [`setsid`] and [`Inherited::mark`]: system calls that
//! take numbers and no pointers. These calls touch no memory, take no lock and allocate nothing.
//! The list of numbers was made before the fork and is only read. The one unsafe system call before
//! the fork has an empty range of descriptors. After the fork, the system calls change only the
//! child's descriptors, because the child's table is a copy.

use std::{
    fs, io,
    os::{fd::RawFd, unix::process::CommandExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use rustix::process::setsid;

use super::{log::Log, own_name};

/// The first descriptor after standard input, output and error.
const FIRST: RawFd = 3;

/// Environment variables of a service manager for its service. The daemon is not part of
/// that service.
const OF_SERVICE_MANAGER: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// The stack of the reaper thread, which only waits.
const STACK_BYTES: usize = 64 * 1024;

/// A daemon process. Dropping this value leaves the daemon running, and reaps the process when
/// it exits.
#[derive(Debug)]
pub(super) struct Process(Option<Child>);

impl Process {
    /// Starts a daemon that serves `socket` and writes to `log`.
    pub(super) fn spawn(program: &Path, socket: &Path, log: &Log) -> io::Result<Self> {
        let inherited = Inherited::find().map_err(|error| {
            let message =
                format!("cannot list the file descriptors that {} inherited: {error}", own_name());
            io::Error::new(error.kind(), message)
        })?;
        spawn(program, socket, log, inherited).map(|child| Self(Some(child)))
    }

    /// The exit status, if the process has exited.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Starts a thread that waits for the exit of a process that is still running. Without the
    /// thread, the process would stay in the system's process table as a zombie until this program
    /// ends. Returns the thread, if one was started.
    fn reap(&mut self) -> Option<JoinHandle<io::Result<ExitStatus>>> {
        let mut child = self.0.take()?;
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return None,
        }
        let thread = thread::Builder::new().name("pfsd".to_owned()).stack_size(STACK_BYTES);
        // If there is no thread, the process becomes a zombie at worst.
        thread.spawn(move || child.wait()).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.reap());
    }
}

fn spawn(program: &Path, socket: &Path, log: &Log, inherited: Inherited) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg("--autostarted").arg("--socket").arg(socket);
    // The log is read as a file, so it must have no colour codes.
    command.env_remove("CLICOLOR_FORCE");
    if std::env::var_os("PFSD_LOG").is_none() {
        command.env("PFSD_LOG", "warn");
    }
    for variable in OF_SERVICE_MANAGER {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.file().try_clone()?);
    // A session of its own, so that neither Ctrl-C at our terminal nor the closing of the terminal
    // reaches the daemon. The standard library offers only a process group, which still gets the
    // terminal's hangup.
    let detach = move || {
        setsid()?;
        inherited.mark()
    };
    // SAFETY: see the module's documentation.
    unsafe { command.pre_exec(detach) };
    command.spawn()
}

/// The descriptors that the daemon must not inherit.
#[derive(Debug)]
enum Inherited {
    /// All descriptors but the standard ones, with one system call: `close_range` with the flag
    /// `CLOEXEC` (Linux 5.11).
    #[cfg(target_os = "linux")]
    Range,
    /// A list of descriptors, marked one by one.
    Listed(Vec<RawFd>),
}

impl Inherited {
    /// # Errors
    ///
    /// The system neither supports `close_range` nor lists descriptors in `/dev/fd`.
    fn find() -> io::Result<Self> {
        // An empty range: only checks that the system call exists.
        #[cfg(target_os = "linux")]
        if mark_from(RawFd::MAX).is_ok() {
            return Ok(Self::Range);
        }
        Self::list()
    }

    fn list() -> io::Result<Self> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir("/dev/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            numbers.extend(number.filter(|number| *number >= FIRST));
        }
        Ok(Self::Listed(numbers))
    }

    /// Sets the close-on-exec flag of each descriptor.
    fn mark(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Range => mark_from(FIRST),
            Self::Listed(numbers) => numbers.iter().try_for_each(|number| mark(*number)),
        }
    }
}

/// Sets the close-on-exec flag of `first` and all descriptors above.
#[cfg(target_os = "linux")]
fn mark_from(first: RawFd) -> io::Result<()> {
    // By number, because glibc has the function only since 2.34.
    let call = libc::SYS_close_range;
    // SAFETY: see the module's documentation.
    match unsafe { libc::syscall(call, first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mark(number: RawFd) -> io::Result<()> {
    // SAFETY: see the module's documentation.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        let error = io::Error::last_os_error();
        // Another thread may have closed the descriptor before the fork.
        if error.raw_os_error() != Some(libc::EBADF) {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::{fs::PermissionsExt, process::ExitStatusExt},
        path::PathBuf,
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::{FdFlags, fcntl_getfd},
        process::{Pid, Signal, kill_process},
    };

    use super::*;

    /// A program that runs this script, and a log for it.
    fn program(directory: &Path, script: &str) -> (PathBuf, Log) {
        let program = directory.join("pfsd");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
        (program, Log::open(directory.join("pfsd.log")).unwrap())
    }

    /// Checks that a daemon started with `find` keeps no inherited descriptor open, and that our
    /// own descriptors are unchanged.
    fn keeps_nothing(find: impl FnOnce() -> io::Result<Inherited>) {
        let directory = tempfile::tempdir().unwrap();
        let (program, log) = program(directory.path(), "exec sleep 86400");
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut child =
            spawn(&program, Path::new("/run/pfsd.sock"), &log, find().unwrap()).unwrap();
        let own = [&reader, &writer].map(|end| fcntl_getfd(end).unwrap());
        drop(writer);
        // If the child kept the pipe's write end open, this would wait for the child, which does
        // not end on its own.
        let mut pipe = [PollFd::new(&reader, PollFlags::IN)];
        let ready = poll(&mut pipe, Some(&Timespec { tv_sec: 120, tv_nsec: 0 })).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ready, 1);
        assert_eq!(own, [FdFlags::empty(); 2], "other children may be meant to have them");
    }

    #[test]
    fn a_daemon_keeps_no_inherited_descriptor_open() {
        keeps_nothing(Inherited::find);
    }

    #[test]
    fn without_close_range_a_daemon_keeps_no_inherited_descriptor_open() {
        keeps_nothing(Inherited::list);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_system_has_close_range() {
        assert!(matches!(Inherited::find().unwrap(), Inherited::Range));
    }

    #[test]
    fn a_dropped_process_keeps_running_and_is_reaped_when_it_exits() {
        let directory = tempfile::tempdir().unwrap();
        let (program, log) = program(directory.path(), "exec sleep 86400");
        let mut process = Process::spawn(&program, Path::new("/run/pfsd.sock"), &log).unwrap();
        let pid = Pid::from_child(process.0.as_ref().unwrap());
        let thread = process.reap().expect("the process runs");
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(thread.join().unwrap().unwrap().signal(), Some(9));
    }
}
