//! Permissions of a token: the streams that its holder may read, write and block (make the writers
//! wait for a slow reader).

use std::{future::pending, mem};

use pfs_proto::{ErrorCode, PathPrefix};
use tokio::sync::watch;

use crate::failure::Failure;

/// The current permissions of one client. A client of the Unix socket has all permissions: the mode
/// of the socket decides which users may open it.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// `None` grants everything, and never changes.
    scope: Option<watch::Receiver<Scope>>,
    /// False for a browser whose request was caused by a link or by a page of another site.
    asks_itself: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Some(Vec<Grant>),
}

/// Grants of a token, or of clients without one. They change when the tokens are reloaded. Clones
/// share the same grants.
#[derive(Clone, Debug)]
pub struct Grants(watch::Sender<Scope>);

impl Grants {
    /// Grants the union of `grants`.
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(watch::Sender::new(Scope::Some(grants)))
    }

    /// Grants everything.
    pub fn all() -> Self {
        Self(watch::Sender::new(Scope::All))
    }

    /// Creates permissions that follow these grants when they change.
    pub fn permissions(&self) -> Permissions {
        Permissions { scope: Some(self.0.subscribe()), asks_itself: true }
    }

    /// Replaces the grants with those of `new`. Returns whether they changed. Sessions that need a
    /// permission that is no longer granted are cut off.
    pub fn replace(&self, new: &Self) -> bool {
        let new = new.0.borrow().clone();
        self.0.send_if_modified(|scope| mem::replace(scope, new) != *scope)
    }

    /// Revokes all grants. All sessions that depend on them are cut off.
    pub fn revoke(&self) {
        self.0.send_replace(Scope::Some(Vec::new()));
    }
}

/// Permission to read, write or block at a path and at all paths below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Allows to read, stat and list.
    pub read: bool,
    /// Allows to create, append, close and remove.
    pub write: bool,
    /// Allows to attach `block` readers, for which writers wait. Requires the permission to read
    /// as well.
    pub block: bool,
    /// The path that the grant applies to, with all paths below it.
    pub prefix: PathPrefix,
}

impl Permissions {
    /// Permits everything.
    pub fn all() -> Self {
        Self { scope: None, asks_itself: true }
    }

    /// Permits the union of `grants`, which never change.
    pub fn from_grants(grants: Vec<Grant>) -> Self {
        Grants::new(grants).permissions()
    }

    /// Removes the permission to block writers, for a browser request that its user or page may
    /// have sent without knowing its effect.
    #[must_use]
    pub fn unasked(self) -> Self {
        Self { asks_itself: false, ..self }
    }

    /// Checks the permission to read the stream of this path, or to list the streams below it.
    ///
    /// # Errors
    ///
    /// The permission is missing.
    pub fn may_read(&self, path: &str) -> Result<(), Failure> {
        self.check(path, "read", |grant| grant.read)
    }

    /// Checks that there is a permission for anything at a path or below it.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn may_use_some(&self, path: &str) -> Result<(), Failure> {
        let is_below =
            |prefix: &str| prefix.strip_prefix(path).is_some_and(|below| below.starts_with('/'));
        let has_some = match &self.scope {
            None => true,
            Some(scope) => match &*scope.borrow() {
                Scope::All => true,
                Scope::Some(grants) => grants
                    .iter()
                    .any(|grant| grant.prefix.contains(path) || is_below(grant.prefix.as_str())),
            },
        };
        if has_some { Ok(()) } else { self.check(path, "use", |_| false) }
    }

    /// Checks the permission to create, append to, close and remove the stream of this path.
    ///
    /// # Errors
    ///
    /// The permission is missing.
    pub fn may_write(&self, path: &str) -> Result<(), Failure> {
        self.check(path, "write", |grant| grant.write)
    }

    /// Checks the permission to make the writers of this path wait for a reader. Does not check the
    /// permission to read.
    ///
    /// # Errors
    ///
    /// The permission is missing.
    pub fn may_block(&self, path: &str) -> Result<(), Failure> {
        if !self.asks_itself {
            let message = format!(
                "a link, or a page of another site that asks without CORS, may not block the writers of {path}; use fetch, or \
                 the slow policy drop or disconnect"
            );
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        if self.has(path, |grant| grant.block) {
            return Ok(());
        }
        let message = format!(
            "this token may not block the writers of {path}; use the slow policy drop or disconnect, or a token \
             whose line in the daemon's token file grants block on that path or a parent"
        );
        Err(Failure::new(ErrorCode::Denied, message))
    }

    /// Waits until `look` returns something. `look` is called now, and again whenever the
    /// grants change.
    pub(crate) async fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let Some(mut scope) = self.scope.clone() else { return pending().await };
        loop {
            scope.mark_unchanged();
            if let Some(found) = look() {
                return found;
            }
            if scope.changed().await.is_err() {
                // The grants are gone, so they cannot change any more.
                return pending().await;
            }
        }
    }

    fn check(&self, path: &str, wish: &str, has: impl Fn(&Grant) -> bool) -> Result<(), Failure> {
        if self.has(path, has) {
            return Ok(());
        }
        let message = format!(
            "this token may not {wish} {path}; use a token whose line in the daemon's token file grants {wish} \
             on that path or a parent"
        );
        Err(Failure::new(ErrorCode::Denied, message))
    }

    fn has(&self, path: &str, has: impl Fn(&Grant) -> bool) -> bool {
        let Some(scope) = &self.scope else { return true };
        match &*scope.borrow() {
            Scope::All => true,
            Scope::Some(grants) => {
                grants.iter().any(|grant| has(grant) && grant.prefix.contains(path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(read: bool, write: bool, prefix: &str) -> Grant {
        Grant { read, write, block: false, prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn a_grant_holds_at_its_prefix_and_below_it_only() {
        let permissions = Permissions::from_grants(vec![grant(true, false, "/streamfs/a")]);
        for path in ["/streamfs/a", "/streamfs/a/", "/streamfs/a/b"] {
            assert!(permissions.may_read(path).is_ok(), "{path}");
        }
        for path in [
            "/streamfs/ab",
            "/streamfs",
            "/streamfs/",
            "/",
            "streamfs/a",
            "/STREAMFS/a",
            "/other/a",
        ] {
            let failure = permissions.may_read(path).unwrap_err();
            assert_eq!(failure.code, ErrorCode::Denied, "{path}");
        }
    }

    #[test]
    fn read_and_write_are_granted_separately_and_grants_add_up() {
        let permissions = Permissions::from_grants(vec![
            grant(true, false, "/"),
            grant(false, true, "/streamfs/a"),
        ]);
        assert!(permissions.may_read("/").is_ok());
        assert!(permissions.may_write("/streamfs/a").is_ok());
        let message = permissions.may_write("/streamfs/b").unwrap_err().message;
        assert!(message.contains("write /streamfs/b"), "{message}");
        assert!(Permissions::from_grants(Vec::new()).may_read("/").is_err());
        assert!(Permissions::all().may_write("/anything").is_ok());
    }

    #[test]
    fn a_grant_below_a_path_lets_some_of_it_be_used() {
        let permissions = Permissions::from_grants(vec![grant(true, false, "/streamfs/a")]);
        for path in ["/streamfs", "/streamfs/a", "/streamfs/a/b"] {
            assert!(permissions.may_use_some(path).is_ok(), "{path}");
        }
        for path in ["/stream", "/streamfs/ab", "/streamfs/b", "/other"] {
            assert!(permissions.may_use_some(path).is_err(), "{path}");
        }
    }

    #[test]
    fn permission_to_read_or_write_does_not_permit_to_block_writers() {
        let blocks = Grant { block: true, ..grant(false, false, "/streamfs/a") };
        let permissions = Permissions::from_grants(vec![grant(true, true, "/"), blocks]);
        assert!(permissions.may_block("/streamfs/a/b").is_ok());
        let failure = permissions.may_block("/streamfs/b").unwrap_err();
        assert_eq!(failure.code, ErrorCode::Denied);
        assert!(
            failure.message.contains("block the writers of /streamfs/b"),
            "{}",
            failure.message
        );
        assert!(Permissions::all().may_block("/anything").is_ok());
    }

    #[test]
    fn existing_permissions_change_with_their_grants() {
        let grants = Grants::all();
        let permissions = grants.permissions();
        let unasked = permissions.clone().unasked();
        assert!(permissions.may_write("anything").is_ok());
        grants.replace(&Grants::new(vec![grant(true, false, "/streamfs")]));
        assert!(
            permissions.may_read("/streamfs/a").is_ok() && unasked.may_read("/streamfs/a").is_ok()
        );
        assert!(
            permissions.may_write("/streamfs/a").is_err() && permissions.may_read("/").is_err()
        );
        grants.revoke();
        assert!(
            permissions.may_read("/streamfs/a").is_err()
                && unasked.may_read("/streamfs/a").is_err()
        );
    }

    #[test]
    fn a_browser_that_was_made_to_ask_may_read_but_not_block_writers() {
        let permissions = Permissions::all().unasked();
        assert!(permissions.may_read("/streamfs/a").is_ok());
        let failure = permissions.may_block("/streamfs/a").unwrap_err();
        assert_eq!(failure.code, ErrorCode::Denied);
        assert!(failure.message.contains("a link"), "{}", failure.message);
    }
}
