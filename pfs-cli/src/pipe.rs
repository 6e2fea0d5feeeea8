//! Buffer sizes of pipes on standard input and output.

use rustix::fd::BorrowedFd;

/// Size to which pipes are enlarged, in bytes. It is four times the default, so that the two ends
/// switch less often. With even larger pipes, a user with many pipelines would soon reach the
/// system's limit per user.
pub(crate) const PIPE_BYTES: usize = 256 * 1024;

/// Enlarges a pipe that holds less than [`PIPE_BYTES`]. Does nothing for other files.
pub(crate) fn enlarge(pipe: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < PIPE_BYTES) {
        // Fails for a pipe of another user, and beyond the user's limit. The pipe then keeps
        // its size.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}
