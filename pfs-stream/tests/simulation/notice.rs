//! Waker that only records that it was woken. The schedule decides when the sleeper is polled
//! again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Wake, Waker},
};

#[derive(Default)]
pub(crate) struct Notice(AtomicBool);

impl Notice {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let notice = Arc::new(Self::default());
        (Arc::clone(&notice), notice.into())
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}
