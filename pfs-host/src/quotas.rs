//! Quotas of users and tokens: limits on the number and memory of the streams that each
//! has created.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pfs_stream::{Limits, Quota};

use crate::owner::Owner;

/// The quotas of all owners.
#[derive(Debug)]
pub(crate) struct Quotas(Mutex<State>);

#[derive(Debug)]
struct State {
    user: Limits,
    token: Limits,
    /// Quotas of owners that have streams, including owners without limits: limits may be
    /// set later.
    in_use: HashMap<Owner, Quota>,
}

impl State {
    /// The limits of an owner's quota; `None` if the owner has no quota.
    fn limits(&self, owner: Owner) -> Option<Limits> {
        match owner {
            Owner::User(_) => Some(self.user),
            Owner::Token(_) => Some(self.token),
            Owner::Anonymous => None,
        }
    }
}

impl Quotas {
    /// Creates quotas with these limits for each user and for each token.
    pub(crate) fn new(user: Limits, token: Limits) -> Self {
        Self(Mutex::new(State { user, token, in_use: HashMap::new() }))
    }

    /// Changes the limits, for streams that are created from now on.
    pub(crate) fn set(&self, user: Limits, token: Limits) {
        let mut state = self.state();
        (state.user, state.token) = (user, token);
        for (owner, quota) in &state.in_use {
            if let Some(limits) = state.limits(*owner) {
                quota.set_limits(limits);
            }
        }
    }

    /// The quota that a new stream of this owner is charged to; `None` if the owner has no quota.
    pub(crate) fn quota(&self, owner: Owner) -> Option<Quota> {
        let mut state = self.state();
        let limits = state.limits(owner)?;
        // `is_idle` is false while another client holds the quota to create a stream, so no use
        // is forgotten.
        state.in_use.retain(|_, quota| !quota.is_idle());
        Some(state.in_use.entry(owner).or_insert_with(|| Quota::new(limits)).clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pfs_stream::{Registry, StreamConfig};

    use super::*;
    use crate::owner::TokenId;

    #[test]
    fn only_owners_with_nothing_in_use_are_forgotten() {
        let quotas = Quotas::new(Limits::UNLIMITED, Limits::UNLIMITED);
        let registry = Registry::new(Limits::default());
        let keeper = Owner::Token(TokenId::new([7; 32]));
        let kept = quotas.quota(keeper).unwrap();
        registry.charged_to(&kept).create("kept", StreamConfig::default()).unwrap();
        drop(kept);
        // Held while a stream is about to be created.
        let creating = quotas.quota(Owner::User(None)).unwrap();
        for uid in 0..100 {
            let quota = quotas.quota(Owner::User(Some(uid))).unwrap();
            registry.charged_to(&quota).create("short", StreamConfig::default()).unwrap();
            registry.remove("short");
        }
        assert!(quotas.quota(Owner::Anonymous).is_none());
        assert_eq!(quotas.quota(keeper).unwrap().streams(), 1);
        registry.charged_to(&creating).create("created", StreamConfig::default()).unwrap();
        drop(creating);
        assert_eq!(quotas.quota(Owner::User(None)).unwrap().streams(), 1);
        assert_eq!(quotas.state().in_use.len(), 2);
        registry.remove("kept");
        registry.remove("created");
        drop(quotas.quota(Owner::User(Some(0))));
        assert_eq!(quotas.state().in_use.len(), 1);
    }
}
