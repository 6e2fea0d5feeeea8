//! Connection watch: wakes a thread that sleeps on a ring buffer's notifier when the daemon sends a
//! message or goes away.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use pfs_stream::shm::Notifier;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{Shutdown, shutdown},
};
use tokio::net::UnixStream;

/// Interval at which a wake is repeated until the sleeper has noticed. A wake just before the
/// sleeper falls asleep is missed.
const AGAIN: Duration = Duration::from_millis(10);

/// A thread that watches the connection and wakes sleepers on the notifier.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Arc<UnixStream>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None` after [`retire`](Watch::retire): no thread sleeps on a notifier.
    notifier: Option<Notifier>,
    /// The number of the current watch. A result of an earlier watch is ignored.
    round: u32,
    /// The connection has news.
    something: bool,
    /// The sleeper has noticed the news.
    heard: bool,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub(crate) fn new(socket: &Arc<UnixStream>, notifier: Notifier) -> io::Result<Self> {
        let state = State {
            notifier: Some(notifier),
            round: 0,
            something: false,
            heard: false,
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (their_socket, theirs) = (Arc::clone(socket), Arc::clone(&shared));
        thread::Builder::new()
            .name("pfs-watch".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || run(&their_socket, &theirs))?;
        Ok(Self { socket: Arc::clone(socket), shared })
    }

    /// Returns true if the connection has a message or has ended. Sleeping is then pointless.
    pub(crate) fn has_news(&self) -> bool {
        let mut state = self.shared.state();
        state.heard |= state.something;
        state.something
    }

    /// Starts a new watch after the connection was read, for a thread that sleeps on `notifier`.
    pub(crate) fn go_on(&self, notifier: Notifier) {
        let mut state = self.shared.state();
        let round = state.round.wrapping_add(1);
        *state = State {
            notifier: Some(notifier),
            round,
            something: false,
            heard: false,
            ended: state.ended,
        };
        self.shared.changed.notify_one();
    }

    /// Stops waking and drops the notifier. The thread ends when data arrives next. Keep the watch
    /// as long as the connection: dropping the watch shuts the connection down.
    pub(crate) fn retire(&self) {
        let mut state = self.shared.state();
        (state.notifier, state.ended) = (None, true);
        self.shared.changed.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.retire();
        // Shuts down the connection, which ends the thread's `poll`. Fails only if the connection
        // has already ended.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }
}

fn run(socket: &UnixStream, shared: &Shared) {
    let mut state = shared.state();
    loop {
        let round = state.round;
        drop(state);
        // After any result except an interrupting signal, wake the sleeper, which then checks for
        // itself what has happened.
        while poll(&mut [PollFd::new(socket, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR)
        {
        }
        state = shared.state();
        while state.round == round && !state.ended {
            state.something = true;
            state = if state.heard {
                shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                if let Some(notifier) = &state.notifier {
                    notifier.wake_sleepers();
                }
                let waited = shared.changed.wait_timeout(state, AGAIN);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
        if state.ended {
            return;
        }
    }
}
