//! Pipes on standard input and output.

use rustix::fd::BorrowedFd;

/// What a pipe is made to hold, in bytes. Four times what pipes hold by default: both ends then
/// take turns less often. Of still larger ones, a user with many pipelines could soon have no more.
pub(crate) const PIPE_BYTES: usize = 256 * 1024;

/// If this is a pipe, and holds less, makes it a large one.
pub(crate) fn enlarge(pipe: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < PIPE_BYTES) {
        // Not for pipes of others, nor beyond what the user may have: then it stays as it is.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}
