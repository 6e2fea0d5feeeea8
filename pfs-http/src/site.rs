//! State that all HTTP requests share.

use std::sync::{Arc, PoisonError, RwLock};

use pfs_host::Daemon;
use rustls::ServerConfig;

use super::{
    access::Access, operations::Tally, origin::Origins, setup::Setup, tokens::TokenChanges,
};
use crate::settings::{Limits, Settings};

/// The daemon and its HTTP state.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) daemon: Arc<Daemon>,
    pub(super) origins: Origins,
    pub(super) tally: Arc<Tally>,
    current: RwLock<Arc<Current>>,
}

/// Settings that a reload replaces. A request or connection takes them when it begins, and does not
/// keep them for longer than necessary.
#[derive(Debug)]
pub(crate) struct Current {
    pub(super) access: Access,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(crate) limits: Limits,
}

impl Site {
    pub(super) fn new(daemon: Arc<Daemon>, setup: Setup) -> Self {
        let origins = Origins::new(&setup.settings);
        let Setup { tokens, tls, settings: Settings { limits, .. }, .. } = setup;
        let current = Current { access: Access::new(tokens), tls, limits };
        Self { daemon, origins, tally: Arc::default(), current: RwLock::new(Arc::new(current)) }
    }

    /// Current access control, certificate and limits.
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reloads tokens, certificates and limits from `setup`.
    pub(super) fn reload(&self, setup: Setup) -> TokenChanges {
        let Setup { tokens, tls, settings: Settings { limits, .. }, .. } = setup;
        let (access, changes) = Access::new(tokens).succeed(&self.current().access);
        let current = Arc::new(Current { access, tls, limits });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        changes
    }
}
