//! The transports by which `pfs` and `pfsd` exchange what is in a stream.

use crate::Daemon;

/// Makes three tests of each of these functions, which take a [`Transport`]: `shm::NAME`,
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

/// How a `pfs` gets and sends bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Memory that it shares with the daemon, which is the default where the system can do it.
    Shm,
    /// Its connection to the daemon's Unix socket.
    Unix,
    /// HTTP.
    Http,
}

impl Transport {
    /// Those that begin at the daemon's Unix socket.
    pub const OF_THE_SOCKET: [Self; 2] = [Self::Shm, Self::Unix];

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shm, Self::Unix, Self::Http];

    /// A daemon with the defaults, which this transport leads to.
    #[track_caller]
    pub fn daemon(self) -> Daemon {
        self.daemon_with_config("")
    }

    /// A daemon with this configuration (TOML), which this transport leads to.
    #[track_caller]
    pub fn daemon_with_config(self, toml: &str) -> Daemon {
        Daemon::launched(toml, (self == Self::Http).then(crate::address_of_its_own), self)
    }

    /// A daemon with the defaults that this transport leads to, and that serves HTTP in any case.
    #[track_caller]
    pub fn daemon_with_http(self) -> Daemon {
        Daemon::launched("", Some(crate::address_of_its_own()), self)
    }

    /// A daemon with rings and channels of this many bytes, which this transport leads to.
    #[track_caller]
    pub fn daemon_with_buffers(self, ring: u64, channel: u64) -> Daemon {
        self.daemon_with_config(&format!(
            "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n\
             [plugins.streamfs.config]\nring_buffer_size = {ring}\nchannel_buffer_size = {channel}\n",
        ))
    }

    /// The user that the daemon sees: over HTTP nobody vouches for one.
    pub fn uid(self) -> Option<u32> {
        (self != Self::Http).then(|| rustix::process::getuid().as_raw())
    }

    /// What `pfs` must be told besides where the daemon is.
    pub(crate) fn flag(self) -> Option<&'static str> {
        (self == Self::Unix).then_some("--no-shm")
    }
}
