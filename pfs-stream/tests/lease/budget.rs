//! Leases of streams whose registry has little memory.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Waker},
};

use pfs_stream::{lease::HolderError, *};

use super::{SIZE, Woken, append, lease};

fn set_memory(registry: &Registry, max_memory: u64) {
    registry.set_limits(Limits { max_memory, ..Limits::UNLIMITED }, u64::MAX);
}

#[test]
fn who_waits_for_the_end_of_a_lease_is_woken_by_an_append_for_which_there_is_no_memory() {
    type Append = fn(&mut Writer) -> WriteError;
    let appends: [Append; 2] = [
        |writer| writer.try_append(b"x").unwrap_err(),
        |writer| writer.try_append_all(&["x", "y"]).unwrap_err(),
    ];
    for fails in appends {
        let registry = Registry::new(Limits::UNLIMITED);
        let stream = registry.create("s", StreamConfig::default().buffer_size(SIZE)).unwrap();
        let mut writer = stream.writer().unwrap();
        let mut holder = lease(&mut writer);
        append(&mut holder, 100).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(writer.poll_lease_end(&mut Context::from_waker(&waker)).is_pending());
        set_memory(&registry, 0);
        let mut other = stream.writer().unwrap();
        let error = fails(&mut other);
        assert!(matches!(error, WriteError::NoMemory { .. }), "{error:?}");
        assert_eq!(append(&mut holder, 10), Err(HolderError::Ended));
        assert_eq!(woken.0.load(Relaxed), 1);
    }
}
