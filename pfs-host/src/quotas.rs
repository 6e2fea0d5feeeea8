//! Quotas of users and of tokens: how many streams each may have created, and how much memory these
//! may take.

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
    /// What owners have in use, whether their quota is limited or not: limits may be set later.
    in_use: HashMap<Owner, Quota>,
}

impl State {
    /// The limits of an owner's quota, if it has one.
    fn limits(&self, owner: Owner) -> Option<Limits> {
        match owner {
            Owner::User(_) => Some(self.user),
            Owner::Token(_) => Some(self.token),
            Owner::Anonymous => None,
        }
    }
}

impl Quotas {
    /// Quotas with these limits, a user's and a token's.
    pub(crate) fn new(user: Limits, token: Limits) -> Self {
        Self(Mutex::new(State { user, token, in_use: HashMap::new() }))
    }

    /// Sets other limits for streams that are created from now on.
    pub(crate) fn set(&self, user: Limits, token: Limits) {
        let mut state = self.state();
        (state.user, state.token) = (user, token);
        for (owner, quota) in &state.in_use {
            if let Some(limits) = state.limits(*owner) {
                quota.set_limits(limits);
            }
        }
    }

    /// The quota to which a stream of this owner is charged.
    pub(crate) fn quota(&self, owner: Owner) -> Option<Quota> {
        let mut state = self.state();
        let limits = state.limits(owner)?;
        // A quota that another client holds to create a stream is not idle, so its use cannot be
        // forgotten.
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
    fn owners_that_have_nothing_in_use_are_forgotten_and_no_others() {
        let quotas = Quotas::new(Limits::UNLIMITED, Limits::UNLIMITED);
        let registry = Registry::new(Limits::default());
        let keeper = Owner::Token(TokenId::new([7; 32]));
        let kept = quotas.quota(keeper).unwrap();
        registry.charged_to(&kept).create("kept", StreamConfig::default()).unwrap();
        drop(kept);
        // About to create a stream.
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
