//! A system without descriptors: no memory can be shared that is not shared already.

#[cfg(all(target_os = "linux", not(miri)))]
mod limited {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Restores the descriptor limit, also when the action in between fails.
    struct Starving(Rlimit);

    impl Drop for Starving {
        fn drop(&mut self) {
            setrlimit(Resource::Nofile, self.0).expect("the previous limit is allowed");
        }
    }

    /// Runs an action, without descriptors if `is_starved`.
    pub(crate) fn during<T>(is_starved: bool, done: impl FnOnce() -> T) -> T {
        if !is_starved {
            return done();
        }
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit { current: Some(0), ..limit };
        setrlimit(Resource::Nofile, none).expect("a limit may be lowered");
        let _starving = Starving(limit);
        done()
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) use limited::during;

/// Runs an action. Nothing needs descriptors on this platform.
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) fn during<T>(_: bool, done: impl FnOnce() -> T) -> T {
    done()
}
