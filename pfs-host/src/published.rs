//! What is appended under a lease, on systems with and without leases.

/// What the holder of a lease has appended by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
}
