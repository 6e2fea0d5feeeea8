//! Daemon (`pfsd`) that one test starts for itself.

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

/// Name of the socket in the daemon's folder.
const SOCKET: &str = "pfsd.sock";

/// Name of the configuration file in the daemon's folder.
const CONFIG: &str = "pfsd.toml";

/// User id of `nobody`.
const NOBODY: u32 = 65534;

/// Running `pfsd` with its own folder, configuration and socket. Dropping a `Daemon` kills
/// the process.
pub struct Daemon {
    // Declared before the folder, so that the process is killed before the folder is removed.
    pub(crate) running: Running,
    dir: TempDir,
    pub(crate) observer: Observer,
    /// HTTP address from the command line, if the daemon serves HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Scheme and address of the daemon's URLs.
    pub(crate) origin: Option<String>,
    transport: Transport,
}

impl Daemon {
    /// Starts a daemon with the default configuration. Its commands use shm.
    #[track_caller]
    pub fn start() -> Self {
        Transport::Shm.daemon()
    }

    /// Like [`start`](Self::start), with this configuration (TOML).
    #[track_caller]
    pub fn with_config(toml: &str) -> Self {
        Transport::Shm.daemon_with_config(toml)
    }

    /// Like [`start`](Self::start), with ring buffers and channels of these sizes, in bytes.
    #[track_caller]
    pub fn with_buffers(ring: u64, channel: u64) -> Self {
        Transport::Shm.daemon_with_buffers(ring, channel)
    }

    /// Like [`start`](Self::start), in this control group.
    #[track_caller]
    pub fn in_cgroup(group: &Cgroup) -> Self {
        Self::launched_in(Some(group), "", None, Transport::Shm)
    }

    /// Starts a daemon whose commands use `transport` unless a test chooses another one.
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

    /// Starts a new daemon on the same socket, and on the same HTTP port, after the last one
    /// has ended.
    #[track_caller]
    pub fn restart(&mut self) {
        let config = std::fs::read_to_string(self.config()).expect("our own file");
        self.running = Self::launch(self.dir.path(), &config, self.http, None);
        self.wait_until_up();
    }

    /// Replaces the configuration file (TOML), runs `pfsd --reload` and returns the result of
    /// that run.
    #[track_caller]
    pub fn reload(&self, toml: &str) -> Finished {
        std::fs::write(self.config(), toml).expect("the test's own folder");
        Pfs::new(binary("pfsd")).arg("--reload").arg("--socket").arg(self.socket()).run()
    }

    /// Path of the configuration file.
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

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Folder of the daemon, which the test may use for its own files. Removed together with
    /// the daemon.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Resident memory of the daemon, in bytes.
    pub fn memory(&self) -> u64 {
        resident(self.running.pid())
    }

    /// Resident memory of the daemon that is shared, such as ring buffers, in bytes.
    pub fn shared_memory(&self) -> u64 {
        shared(self.running.pid())
    }

    /// Log of the daemon so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Returns true if the daemon is running.
    pub fn runs(&mut self) -> bool {
        self.running.runs()
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Kills the daemon with SIGKILL and waits until the process is gone.
    pub fn kill9(&mut self) {
        self.running.signal(Signal::KILL);
        eventually("the killed daemon is gone", || !self.running.runs());
    }

    /// Sends the daemon a signal and waits until the process ends. Returns the folder, which stays.
    #[track_caller]
    pub fn ends_by(self, signal: Signal) -> (Finished, TempDir) {
        self.running.signal(signal);
        (self.running.finish(), self.dir)
    }

    /// Builds a `pfs` command line that connects to this daemon.
    #[track_caller]
    pub fn pfs<const N: usize>(&self, args: [&str; N]) -> Pfs {
        self.pfs_on(self.transport, args)
    }

    /// Builds a `pfs` command line that connects to this daemon over `transport`.
    #[track_caller]
    pub fn pfs_on<const N: usize>(&self, transport: Transport, args: [&str; N]) -> Pfs {
        let pfs = match transport {
            Transport::Shm | Transport::Unix => Pfs::on(transport).env("PFS_SOCKET", self.socket()),
            Transport::Http => Pfs::on(transport).env("PFS_URL", self.url("")),
        };
        pfs.args(args)
    }

    /// Starts a reader (`pfs cat --stream ARGS`) and waits until it is attached to the
    /// existing `stream`.
    #[track_caller]
    pub fn reader<const N: usize>(&self, stream: &str, args: [&str; N]) -> Running {
        self.attached(stream, self.pfs(["cat", "--stream"]).args(args).arg(stream))
    }

    /// Like [`reader`](Self::reader), with stdout as a pipe.
    #[track_caller]
    pub fn piped_reader<const N: usize>(&self, stream: &str, args: [&str; N]) -> Running {
        self.attached(stream, self.pfs(["cat", "--stream"]).args(args).arg(stream).stdout_pipe())
    }

    /// Like [`reader`](Self::reader), over `transport`.
    #[track_caller]
    pub fn reader_on<const N: usize>(
        &self,
        transport: Transport,
        stream: &str,
        args: [&str; N],
    ) -> Running {
        self.attached(stream, self.pfs_on(transport, ["cat", "--stream"]).args(args).arg(stream))
    }

    /// Like [`reader_on`](Self::reader_on), with stdout as a pipe.
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
        if self.is_mounted(stream) {
            // The events are those of the owner.
            let mut reader = command.spawn();
            let joined = format!("reader joined stream=\"{stream}\" pid={} ", reader.pid());
            eventually("the reader is attached", || {
                assert!(reader.runs(), "the reader ended at once; stderr: {}", reader.stderr());
                self.log().contains(&joined)
            });
            return reader;
        }
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

    /// Connects to the socket, for a test that sends frames itself.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::connect(&self.socket())
    }

    /// Like [`wire`](Self::wire), but connects as the user `nobody`, whom the daemon's
    /// configuration must let in (`listen.socket_mode`). Returns `None`, and reports the test as
    /// skipped, if this process may not change its user.
    #[track_caller]
    pub fn wire_of_nobody(&self) -> Option<Wire> {
        if !geteuid().is_root() {
            skip("only root can become another user");
            return None;
        }
        set_permissions(self.dir(), Permissions::from_mode(0o755)).expect("the test's own folder");
        let socket = self.socket();
        // The kernel tells the daemon the user of the connecting thread. On Linux a thread has its
        // own user id, so only this thread becomes `nobody`.
        let connected = thread::spawn(move || {
            let nobody = Uid::from_raw(NOBODY);
            set_thread_res_uid(nobody, nobody, nobody).expect("root may become anybody");
            Wire::connect(&socket)
        });
        Some(connected.join().expect("nobody may connect"))
    }
}

/// Daemon that `pfs` started on this socket, if there is one. Dropping an `Autostarted` kills
/// the daemon.
pub struct Autostarted(pub PathBuf);

impl Autostarted {
    /// The daemon that `pfs` starts for users of this runtime folder.
    pub fn for_user(runtime_dir: &Path) -> Self {
        Self(runtime_dir.join("pfs").join(SOCKET))
    }

    /// Process id of the daemon; `None` if no process listens on the socket.
    pub fn pid(&self) -> Option<u32> {
        served_by(&self.0)
    }
}

/// Returns the id of the process that listens on a socket, from the socket's peer credentials;
/// `None` if no process listens there.
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
