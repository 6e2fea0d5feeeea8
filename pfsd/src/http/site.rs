//! What all requests share.

use std::sync::Arc;

use crate::{daemon::Daemon, shutdown::Going};

/// The daemon as HTTP sees it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) daemon: Arc<Daemon>,
    going: Going,
}

impl Site {
    pub(crate) fn new(daemon: Arc<Daemon>, going: Going) -> Self {
        Self { daemon, going }
    }

    /// Knows when the daemon ends. Responses that go on must watch it.
    pub(crate) fn going(&self) -> Going {
        self.going.clone()
    }
}
