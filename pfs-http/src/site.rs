//! What all requests share.

use std::sync::Arc;

use pfs_host::Daemon;

use super::{operations::Tally, origin::Origins, setup::Setup, tokens::Tokens};
use crate::settings::Limits;

/// The daemon as HTTP sees it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) daemon: Arc<Daemon>,
    /// Who may do what; `None` is everybody everything.
    pub(super) tokens: Option<Tokens>,
    pub(super) origins: Origins,
    pub(super) limits: Limits,
    pub(super) tally: Arc<Tally>,
}

impl Site {
    pub(super) fn new(daemon: Arc<Daemon>, setup: Setup) -> Self {
        let Setup { tokens, settings, .. } = setup;
        Self {
            daemon,
            tokens,
            origins: Origins::new(&settings),
            limits: settings.limits,
            tally: Arc::default(),
        }
    }
}
