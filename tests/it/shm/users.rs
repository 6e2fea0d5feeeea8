//! Users with shm access: clients of the daemon's own user, or all users if the configuration
//! says so.

use harness::{Daemon, Wire, eventually, noise};
use pfs_proto::{Hello, ReadOptions, Reply, Request, WriteOptions};

use super::{S, lease};

/// Connects as another user and offers shm. Returns the connection and the daemon's capabilities;
/// `None` if this process may not become another user.
fn greeted_as_nobody(daemon: &Daemon) -> Option<(Wire, u64)> {
    let mut wire = daemon.wire_of_nobody()?;
    wire.send(&Request::Hello(Hello { capabilities: Hello::SHM, ..Hello::OURS }));
    let Some(Reply::Hello(hello)) = wire.reply() else { panic!("the daemon greets everybody") };
    Some((wire, hello.capabilities & Hello::SHM))
}

/// Starts a daemon that lets all users in, with `more` lines for its table `listen`.
fn open_to_all(more: &str) -> Daemon {
    let daemon = Daemon::with_config(&format!("[listen]\nsocket_mode = \"0666\"\n{more}"));
    daemon.append(S, "so far");
    daemon
}

#[test]
fn a_reader_of_another_user_is_served_over_the_socket() {
    let daemon = open_to_all("");
    let Some((mut wire, shares)) = greeted_as_nobody(&daemon) else { return };
    assert_eq!(shares, 0);
    wire.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Reading { .. })));
    assert!(matches!(wire.reply(), Some(Reply::Data(bytes)) if bytes == "so far"));
    let joined = "reader joined stream=\"/streamfs/s\"";
    eventually("the log names the transport", || {
        daemon
            .log()
            .lines()
            .any(|line| line.contains(joined) && line.contains("transport=\"unix\""))
    });
}

#[test]
fn a_writer_of_another_user_is_served_over_the_socket() {
    let daemon = open_to_all("");
    let Some((mut wire, shares)) = greeted_as_nobody(&daemon) else { return };
    assert_eq!(shares, 0);
    wire.send(&Request::OpenWriter(S.parse().unwrap(), WriteOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Writing { .. })));
}

/// Bit 1 was the capability of older clients whose writers used shm without a lease.
#[test]
fn an_older_shm_client_is_served_over_the_socket() {
    const SHARING_AS_BEFORE: u64 = 1;
    let daemon = Daemon::start();
    daemon.append(S, "so far");
    let greeted = || {
        let mut wire = daemon.wire();
        let capabilities = SHARING_AS_BEFORE | Hello::MOVING | Hello::LEASING;
        wire.send(&Request::Hello(Hello { capabilities, ..Hello::OURS }));
        let shared = Hello { capabilities: Hello::LEASING, ..Hello::OURS };
        assert_eq!(wire.reply(), Some(Reply::Hello(shared)));
        wire
    };
    let mut reader = greeted();
    reader.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
    assert!(matches!(reader.reply(), Some(Reply::Reading { .. })));
    assert!(matches!(reader.reply(), Some(Reply::Data(bytes)) if bytes == "so far"));
    let mut writer = lease::writing(greeted(), S);
    // More than enough for a lease.
    for number in 1..=64 {
        writer.send(&Request::Append(noise(number, 64 * 1024).into()));
        let reply = writer.reply();
        assert!(matches!(reply, Some(Reply::Ack { chunks, .. }) if chunks == number), "{reply:?}");
    }
}

#[test]
fn all_users_may_use_shm_if_the_configuration_says_so() {
    let daemon = open_to_all("shm = \"all\"");
    let Some((mut wire, shares)) = greeted_as_nobody(&daemon) else { return };
    assert_eq!(shares, Hello::SHM);
    wire.send(&Request::OpenReader(S.parse().unwrap(), ReadOptions::default()));
    assert!(matches!(wire.reply(), Some(Reply::Shm(_))));
}
