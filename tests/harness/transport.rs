//! Transports between `pfs` and `pfsd`.

use crate::Daemon;

/// Generates three tests from each of these functions, which take a [`Transport`]: `shm::NAME`,
/// `unix::NAME` and `http::NAME`. `cargo nextest run -p pfs-tests slow_reader::http` runs those of
/// one module and one transport.
#[macro_export]
macro_rules! per_transport {
    ($($name:ident),+ $(,)?) => {
        $crate::per_transport!(@module shm Shm $($name)+);
        $crate::per_transport!(@module unix Unix $($name)+);
        $crate::per_transport!(@module http Http $($name)+);
    };
    (@module $module:ident $transport:ident $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::Transport::$transport);
                }
            )+
        }
    };
}

/// Transport by which `pfs` sends and receives bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory with the daemon: the default where the system supports it.
    Shm,
    /// The daemon's Unix socket.
    Unix,
    /// HTTP.
    Http,
}

impl Transport {
    /// Transports that start at the daemon's Unix socket.
    pub const OF_THE_SOCKET: [Self; 2] = [Self::Shm, Self::Unix];

    /// All transports.
    pub const ALL: [Self; 3] = [Self::Shm, Self::Unix, Self::Http];

    /// Starts a daemon with the default configuration. Its commands use this transport.
    #[track_caller]
    pub fn daemon(self) -> Daemon {
        self.daemon_with_config("")
    }

    /// Starts a daemon with this configuration (TOML). Its commands use this transport.
    #[track_caller]
    pub fn daemon_with_config(self, toml: &str) -> Daemon {
        Daemon::launched(toml, (self == Self::Http).then(crate::address_of_its_own), self)
    }

    /// Starts a daemon with the default configuration that serves HTTP too. Its commands use
    /// this transport.
    #[track_caller]
    pub fn daemon_with_http(self) -> Daemon {
        Daemon::launched("", Some(crate::address_of_its_own()), self)
    }

    /// Starts a daemon with this configuration (TOML) that serves HTTP too. Its commands use this
    /// transport.
    #[track_caller]
    pub fn daemon_with_http_config(self, toml: &str) -> Daemon {
        Daemon::launched(toml, Some(crate::address_of_its_own()), self)
    }

    /// Starts a daemon with ring buffers and channels of these sizes, in bytes. Its commands use
    /// this transport.
    #[track_caller]
    pub fn daemon_with_buffers(self, ring: u64, channel: u64) -> Daemon {
        self.daemon_with_config(&format!(
            "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n\
             [plugins.streamfs.config]\nring_buffer_size = {ring}\nchannel_buffer_size = {channel}\n",
        ))
    }

    /// Returns the user id that the daemon sees; `None` over HTTP, where no user id is known.
    pub fn uid(self) -> Option<u32> {
        (self != Self::Http).then(|| rustix::process::getuid().as_raw())
    }

    /// Returns the option that selects this transport, besides the address of the daemon.
    pub(crate) fn flag(self) -> Option<&'static str> {
        (self == Self::Unix).then_some("--no-shm")
    }
}
