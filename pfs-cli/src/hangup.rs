//! Noticing that nobody reads standard output any more, also while there is nothing to write.

use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// Comes to an end when the reader of standard output has gone; never for a file or a terminal that stays.
///
/// A thread waits for it, since an event loop cannot watch every kind of file and would have to share
/// the descriptor's non-blocking flag with other processes.
pub(crate) async fn stdout_hangup() {
    let (gone, noticed) = oneshot::channel();
    // Where no thread can be had, the next write notices.
    let watcher =
        thread::Builder::new().name("stdout-hangup".to_owned()).stack_size(64 * 1024).spawn(move || {
            if wait_for_hangup() {
                let _ = gone.send(());
            }
        });
    if watcher.is_err() || noticed.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until standard output reports an error or hang-up; `false` if it cannot be watched.
fn wait_for_hangup() -> bool {
    let stdout = rustix::stdio::stdout();
    loop {
        // No event is asked for: errors and hang-ups are reported in any case.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                return watched.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
            }
            Err(_) => return false,
        }
    }
}
