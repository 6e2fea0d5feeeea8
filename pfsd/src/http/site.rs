//! What all requests share.

use std::sync::Arc;

use super::{operations::Tally, origin::Origins, setup::Setup, tokens::Tokens};
use crate::{config::HttpLimits, daemon::Daemon, shutdown::Going};

/// The daemon as HTTP sees it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) daemon: Arc<Daemon>,
    /// Who may do what; `None` is everybody everything.
    pub(super) tokens: Option<Tokens>,
    pub(super) origins: Origins,
    pub(super) limits: HttpLimits,
    pub(super) tally: Arc<Tally>,
    going: Going,
}

impl Site {
    pub(super) fn new(daemon: Arc<Daemon>, going: Going, setup: Setup) -> Self {
        let Setup { tokens, config, .. } = setup;
        Self {
            daemon,
            tokens,
            origins: Origins::new(&config),
            limits: config.limits,
            tally: Arc::default(),
            going,
        }
    }

    /// Knows when the daemon ends. Responses that go on must watch it.
    pub(crate) fn going(&self) -> Going {
        self.going.clone()
    }
}
