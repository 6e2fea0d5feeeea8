//! The two ways by which `pfs` and `pfsd` exchange what is in a stream.

/// How a `pfs` gets and sends bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through memory that it shares with the daemon, which is the default where the system can do it.
    Mapped,
    /// Over its connection.
    Connection,
}

impl Way {
    /// Both, for what must not depend on it.
    pub const BOTH: [Self; 2] = [Self::Mapped, Self::Connection];

    /// The way of every `pfs` of which a test says nothing else: the default, or with `PFS_TEST_NO_MAP=1` in the
    /// environment of the tests the connection.
    pub fn of_this_run() -> Self {
        let over_connection = std::env::var_os("PFS_TEST_NO_MAP").is_some_and(|value| value == "1");
        if over_connection { Self::Connection } else { Self::Mapped }
    }

    /// What `pfs` must be told.
    pub(crate) fn flag(self) -> Option<&'static str> {
        (self == Self::Connection).then_some("--no-map")
    }
}
