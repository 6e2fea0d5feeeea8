//! A daemon of the test's own.

use std::{
    fs::{Permissions, set_permissions},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    thread,
};

use pfs_proto::StreamEvent;
use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use tempfile::TempDir;

use crate::{
    Cgroup, Finished, Pfs, Running, Signal, Transport, Wire, binary, eventually, kill,
    observer::Observer, resident, shared, skip,
};

/// The name of its socket in its folder.
const SOCKET: &str = "pfsd.sock";

/// The name of its configuration file there.
const CONFIG: &str = "pfsd.toml";

/// The id of the user `nobody`.
const NOBODY: u32 = 65534;

/// A running `pfsd` with its own folder, configuration and socket; killed at drop.
pub struct Daemon {
    // Before the folder, so that it is killed before the folder goes.
    pub(crate) running: Running,
    dir: TempDir,
    pub(crate) observer: Observer,
    /// Where it was told to serve HTTP, if it was.
    pub(crate) http: Option<SocketAddr>,
    /// The scheme and the address of its URLs.
    pub(crate) origin: Option<String>,
    transport: Transport,
}

impl Daemon {
    /// With the defaults. Its commands share memory with it.
    #[track_caller]
    pub fn start() -> Self {
        Transport::Shm.daemon()
    }

    /// As [`start`](Self::start), with this configuration (TOML).
    #[track_caller]
    pub fn with_config(toml: &str) -> Self {
        Transport::Shm.daemon_with_config(toml)
    }

    /// As [`start`](Self::start), with rings and channels of this many bytes.
    #[track_caller]
    pub fn with_buffers(ring: u64, channel: u64) -> Self {
        Transport::Shm.daemon_with_buffers(ring, channel)
    }

    /// As [`start`](Self::start), in this control group.
    #[track_caller]
    pub fn in_cgroup(group: &Cgroup) -> Self {
        Self::launched_in(Some(group), "", None, Transport::Shm)
    }

    /// Of which commands use this transport unless a test says something else.
    #[track_caller]
    pub(crate) fn launched(toml: &str, http: Option<SocketAddr>, transport: Transport) -> Self {
        Self::launched_in(None, toml, http, transport)
    }

    #[track_caller]
    fn launched_in(
        group: Option<&Cgroup>,
        toml: &str,
        http: Option<SocketAddr>,
        transport: Transport,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let running = Self::launch(dir.path(), toml, http, group);
        let observer = Observer::new(dir.path().join(SOCKET));
        let mut daemon = Self { running, dir, observer, http, origin: None, transport };
        daemon.wait_until_up();
        daemon
    }

    /// Starts another one on the same socket, and where it served HTTP on the same port, after this
    /// one has ended.
    #[track_caller]
    pub fn restart(&mut self) {
        let config = std::fs::read_to_string(self.config()).expect("our own file");
        self.running = Self::launch(self.dir.path(), &config, self.http, None);
        self.wait_until_up();
    }

    /// Changes its configuration file (TOML) and has it reload that: the run of `pfsd --reload`.
    #[track_caller]
    pub fn reload(&self, toml: &str) -> Finished {
        std::fs::write(self.config(), toml).expect("the test's own folder");
        Pfs::new(binary("pfsd")).arg("--reload").arg("--socket").arg(self.socket()).run()
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join(CONFIG)
    }

    fn launch(dir: &Path, toml: &str, http: Option<SocketAddr>, group: Option<&Cgroup>) -> Running {
        let config = dir.join(CONFIG);
        std::fs::write(&config, toml).expect("the test's own folder");
        let pfsd = Pfs::new(binary("pfsd")).arg("--config").arg(&config);
        let pfsd = http.iter().fold(pfsd, |pfsd, http| pfsd.arg("--http").arg(http.to_string()));
        let pfsd = pfsd.arg("--socket").arg(dir.join(SOCKET));
        group.into_iter().fold(pfsd, Pfs::in_cgroup).spawn()
    }

    #[track_caller]
    fn wait_until_up(&mut self) {
        let socket = self.socket();
        eventually("the daemon answers", || {
            assert!(
                self.running.runs(),
                "the daemon ended at once; stderr: {}",
                self.running.stderr()
            );
            UnixStream::connect(&socket).is_ok()
        });
        if self.http.is_some() {
            let (scheme, address) = self.serving_http();
            self.http = Some(address);
            self.origin = Some(format!("{scheme}://{address}"));
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// A folder that lives as long as the daemon, for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The memory it holds, in bytes.
    pub fn memory(&self) -> u64 {
        resident(self.running.pid())
    }

    /// The memory of rings that it holds, in bytes.
    pub fn shared_memory(&self) -> u64 {
        shared(self.running.pid())
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Kills it, so that it can do nothing more, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.running.signal(Signal::KILL);
        eventually("the killed daemon is gone", || !self.running.runs());
    }

    /// Sends it a signal and waits for its end. The folder stays.
    #[track_caller]
    pub fn ends_by(self, signal: Signal) -> (Finished, TempDir) {
        self.running.signal(signal);
        (self.running.finish(), self.dir)
    }

    /// A `pfs` command line that talks to this daemon.
    #[track_caller]
    pub fn pfs<const N: usize>(&self, args: [&str; N]) -> Pfs {
        self.pfs_on(self.transport, args)
    }

    /// A `pfs` command line that talks to this daemon over this transport.
    #[track_caller]
    pub fn pfs_on<const N: usize>(&self, transport: Transport, args: [&str; N]) -> Pfs {
        let pfs = match transport {
            Transport::Shm | Transport::Unix => Pfs::on(transport).env("PFS_SOCKET", self.socket()),
            Transport::Http => Pfs::on(transport).env("PFS_URL", self.url("")),
        };
        pfs.args(args)
    }

    /// Starts a reader (`pfs cat --stream ARGS`) and waits until it is attached to the existing
    /// `stream`.
    #[track_caller]
    pub fn reader<const N: usize>(&self, stream: &str, args: [&str; N]) -> Running {
        self.attached(stream, self.pfs(["cat", "--stream"]).args(args).arg(stream))
    }

    /// As [`reader`](Self::reader), with stdout in a pipe.
    #[track_caller]
    pub fn piped_reader<const N: usize>(&self, stream: &str, args: [&str; N]) -> Running {
        self.attached(stream, self.pfs(["cat", "--stream"]).args(args).arg(stream).stdout_pipe())
    }

    /// As [`reader`](Self::reader), over this transport.
    #[track_caller]
    pub fn reader_on<const N: usize>(
        &self,
        transport: Transport,
        stream: &str,
        args: [&str; N],
    ) -> Running {
        self.attached(stream, self.pfs_on(transport, ["cat", "--stream"]).args(args).arg(stream))
    }

    /// As [`reader_on`](Self::reader_on), with stdout in a pipe.
    #[track_caller]
    pub fn piped_reader_on<const N: usize>(
        &self,
        transport: Transport,
        stream: &str,
        args: [&str; N],
    ) -> Running {
        self.attached(
            stream,
            self.pfs_on(transport, ["cat", "--stream"]).args(args).arg(stream).stdout_pipe(),
        )
    }

    /// Starts a command that reads, and waits until it is attached to the existing `stream`.
    #[track_caller]
    pub fn attached(&self, stream: &str, command: Pfs) -> Running {
        let mut watch = self.watch(stream);
        let mut reader = command.spawn();
        let pid = reader.pid();
        watch.until(
            "the reader is attached",
            || assert!(reader.runs(), "the reader ended at once; stderr: {}", reader.stderr()),
            |event| match event {
                StreamEvent::Subscribed { peer, .. } => peer.pid == Some(pid),
                StreamEvent::Missed { .. } => self.reader_stat(stream, pid).is_some(),
                _ => false,
            },
        );
        reader
    }

    /// A connection on which the test says what it likes.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::connect(&self.socket())
    }

    /// As [`wire`](Self::wire), and the daemon sees the user `nobody`, whom its configuration must
    /// let in (`listen.socket_mode`). `None`, with a line that says so, where this process may
    /// not become another user.
    #[track_caller]
    pub fn wire_of_nobody(&self) -> Option<Wire> {
        if !geteuid().is_root() {
            skip("only root can become another user");
            return None;
        }
        set_permissions(self.dir(), Permissions::from_mode(0o755)).expect("the test's own folder");
        let socket = self.socket();
        // The system tells the daemon who connected, and a thread has a user of its own, which it
        // keeps.
        let connected = thread::spawn(move || {
            let nobody = Uid::from_raw(NOBODY);
            set_thread_res_uid(nobody, nobody, nobody).expect("root may become anybody");
            Wire::connect(&socket)
        });
        Some(connected.join().expect("nobody may connect"))
    }
}

/// The daemon that `pfs` started by itself on this socket, if any; killed at drop.
pub struct Autostarted(pub PathBuf);

impl Autostarted {
    /// The one that users of this runtime folder get.
    pub fn for_user(runtime_dir: &Path) -> Self {
        Self(runtime_dir.join("pfs").join(SOCKET))
    }

    /// Its process id; `None` if nothing answers.
    pub fn pid(&self) -> Option<u32> {
        served_by(&self.0)
    }
}

/// The id of the process that listens on a socket, as the socket tells it; `None` if nothing
/// answers.
pub fn served_by(socket: &Path) -> Option<u32> {
    let connection = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&connection).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

impl Drop for Autostarted {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill(pid, Signal::KILL);
        }
    }
}
