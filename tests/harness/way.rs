//! The ways by which `pfs` and `pfsd` exchange what is in a stream.

/// How a `pfs` gets and sends bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through memory that it shares with the daemon, which is the default where the system can do it.
    Mapped,
    /// Over its connection to the daemon's socket.
    Connection,
    /// Over HTTP.
    Http,
}

impl Way {
    /// Those over the socket, for what must not depend on it.
    pub const BOTH: [Self; 2] = [Self::Mapped, Self::Connection];

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mapped, Self::Connection, Self::Http];

    /// The way of every `pfs` of which a test says nothing else: the default, or what `PFS_TEST_WAY` says in the environment
    /// of the tests (`connection` or `http`).
    pub fn of_this_run() -> Self {
        match std::env::var("PFS_TEST_WAY").as_deref() {
            Err(_) | Ok("" | "mapped") => Self::Mapped,
            Ok("connection") => Self::Connection,
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
        (self == Self::Connection).then_some("--no-map")
    }
}
