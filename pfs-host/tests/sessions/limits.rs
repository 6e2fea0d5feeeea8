//! Limits that change while the daemon runs.

use pfs_host::{Daemon, Settings};
use pfs_stream::Limits;

fn settings(max_connections: usize, max_memory: u64) -> Settings {
    let limits = Limits { max_streams: 3, max_memory };
    Settings { max_connections, limits, max_stream_descriptors: 2, ..Settings::default() }
}

#[test]
fn a_lower_connection_limit_cuts_none_and_admits_none_until_enough_have_ended() {
    let daemon = Daemon::new(&settings(3, 1024 * 1024));
    let mut open: Vec<_> = (0..3).map(|_| daemon.admit().unwrap()).collect();
    assert!(daemon.admit().is_none());
    daemon.set_limits(&settings(2, 1024 * 1024));
    let info = daemon.info();
    assert_eq!((info.connections, info.max_connections, daemon.max_connections()), (3, 2, 2));
    open.pop();
    assert!(daemon.admit().is_none(), "the limit is still reached");
    open.pop();
    open.push(daemon.admit().unwrap());
    daemon.set_limits(&settings(4, 1024 * 1024));
    open.extend([daemon.admit().unwrap(), daemon.admit().unwrap()]);
    assert!(daemon.admit().is_none());
    assert_eq!(daemon.info().connections, 4);
}

#[test]
fn a_new_memory_limit_applies_to_streams_and_to_message_budgets() {
    let daemon = Daemon::new(&settings(1, 80 * 1024));
    let held = daemon.arriving().reserve(10 * 1024).unwrap();
    daemon.set_limits(&settings(1, 40 * 1024));
    let limits = [
        daemon.registry().limits().max_memory,
        daemon.arriving().limit(),
        daemon.leaving().limit(),
    ];
    assert_eq!(limits, [40 * 1024, 5 * 1024, 5 * 1024]);
    assert_eq!(daemon.info().max_memory, 40 * 1024);
    assert!(daemon.arriving().reserve(1).is_none() && daemon.leaving().reserve(5 * 1024).is_some());
    drop(held);
    assert!(daemon.arriving().reserve(5 * 1024).is_some());
}
