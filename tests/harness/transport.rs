//! The transports by which `pfs` and `pfsd` exchange what is in a stream.

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

    /// The transport of every `pfs` of which a test says nothing else: the default, or what `PFS_TEST_WAY` says in the
    /// environment of the tests (`connection` or `http`).
    pub fn of_this_run() -> Self {
        match std::env::var("PFS_TEST_WAY").as_deref() {
            Err(_) | Ok("" | "mapped") => Self::Shm,
            Ok("connection") => Self::Unix,
            Ok("http") => Self::Http,
            Ok(other) => panic!("PFS_TEST_WAY is mapped, connection or http, not {other:?}"),
        }
    }

    /// The user that the daemon sees: over HTTP nobody vouches for one.
    pub fn uid(self) -> Option<u32> {
        (self != Self::Http).then(|| rustix::process::getuid().as_raw())
    }

    /// What `pfs` must be told besides where the daemon is.
    pub(crate) fn flag(self) -> Option<&'static str> {
        (self == Self::Unix).then_some("--no-map")
    }
}
