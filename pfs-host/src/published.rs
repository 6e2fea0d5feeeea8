//! Totals of the appends under a lease, for systems with and without leases.

/// Chunks and bytes that the holder of a lease has appended, and the offset after the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) offset: u64,
}
