//! Daemon lookup: which daemon a client finds, and where it starts one, when no option names
//! a socket.

use harness::{Machine, Running, eventually};

const S: &str = "/streamfs/job";

const ROOT: u32 = 0;
const USER: u32 = 12_345;
const OTHER: u32 = 12_346;

/// Runtime directory of a login session of root.
const RUNTIME: &str = "/run/user/0";
const WITH_SESSION: &[(&str, &str)] = &[("XDG_RUNTIME_DIR", RUNTIME)];
/// Environment of a cron job.
const BARE: &[(&str, &str)] = &[];

#[test]
fn a_shell_and_a_cron_job_meet_at_one_daemon_whichever_is_first() {
    for (reader, writer) in [(WITH_SESSION, BARE), (BARE, WITH_SESSION)] {
        let Some(machine) = Machine::new() else { return };
        machine.directory(RUNTIME, ROOT, 0o700);
        let reader = machine.pfs(ROOT, reader).args(["cat", "--stream", S]).spawn();
        eventually("the reader's daemon answers", || {
            machine.daemon("/run/user/0/pfs/pfsd.sock").is_some()
        });
        machine
            .pfs(ROOT, writer)
            .args(["write", "--close", S])
            .stdin("all")
            .run()
            .exits(0)
            .quietly();
        assert_eq!(reader.finish().exits(0).text(), "all");
        assert_eq!(machine.sockets(), ["/run/user/0/pfs/pfsd.sock"]);
    }
}

#[test]
fn a_later_login_finds_the_daemon_of_a_job_that_ran_before() {
    let Some(machine) = Machine::new() else { return };
    machine.pfs(ROOT, BARE).args(["write", S]).stdin("before").run().exits(0).quietly();
    machine.directory(RUNTIME, ROOT, 0o700);
    let read =
        machine.pfs(ROOT, WITH_SESSION).args(["cat", "--stream", "--until", "caught-up", S]).run();
    assert_eq!(read.exits(0).text(), "before");
    assert_eq!(machine.sockets(), ["/tmp/pfs-0/pfsd.sock"]);
    // A second daemon does not start either where it would hide the first one.
    let pid = machine.daemon("/tmp/pfs-0/pfsd.sock").unwrap();
    let second = machine.pfsd(ROOT, WITH_SESSION).run().exits(1);
    second
        .says(&format!("a pfsd (pid {pid}) already serves /tmp/pfs-0/pfsd.sock"))
        .says("--socket");
}

#[test]
fn many_at_once_with_and_without_a_session_start_one_daemon() {
    let Some(machine) = Machine::new() else { return };
    machine.directory(RUNTIME, ROOT, 0o700);
    let create = |i: usize| {
        let variables = if i.is_multiple_of(2) { WITH_SESSION } else { BARE };
        machine.pfs(ROOT, variables).arg("create").arg(format!("/streamfs/{i}")).spawn()
    };
    let all: Vec<Running> = (0..8).map(create).collect();
    for one in all {
        one.finish().exits(0);
    }
    let list = machine.pfs(ROOT, BARE).arg("ls").run().exits(0);
    assert_eq!(list.text().lines().count(), 8, "{}", list.text());
    assert_eq!(machine.sockets().len(), 1);
}

#[test]
fn an_unusable_runtime_directory_is_skipped() {
    let Some(mut machine) = Machine::new() else { return };
    machine.directory("/run/read-only", ROOT, 0o700);
    machine.make_read_only("/run/read-only");
    let missing = &[("XDG_RUNTIME_DIR", "/run/missing")];
    machine.pfs(ROOT, missing).args(["write", S]).stdin("x").run().exits(0).quietly();
    assert_eq!(machine.sockets(), ["/tmp/pfs-0/pfsd.sock"]);
    assert!(!machine.outside("/run/missing").exists());

    let Some(mut machine) = Machine::new() else { return };
    machine.directory("/run/read-only", ROOT, 0o700);
    machine.make_read_only("/run/read-only");
    let read_only = &[("XDG_RUNTIME_DIR", "/run/read-only")];
    let run = machine.pfs(ROOT, read_only).args(["write", S]).stdin("x").run().exits(0);
    run.says("/run/read-only/pfs")
        .says("read-only")
        .says("starting the daemon on /tmp/pfs-0/pfsd.sock");
    machine.pfs(ROOT, read_only).args(["ls"]).run().exits(0).quietly();
}

#[test]
fn if_no_daemon_can_be_started_every_directory_is_named_with_its_reason() {
    let Some(mut machine) = Machine::new() else { return };
    machine.make_read_only("/run");
    machine.make_read_only("/tmp");
    let variables = &[("XDG_RUNTIME_DIR", "/run/missing")];
    let pfs = machine.pfs(ROOT, variables).arg("ls").run().exits(5);
    let pfsd = machine.pfsd(ROOT, variables).run().exits(1);
    for run in [pfs, pfsd] {
        run.says("/run/missing does not exist")
            .says("/run/user/0 does not exist")
            .says("cannot make the directory /tmp/pfs-0: read-only file system")
            .says("cannot make the directory /run/pfs: read-only file system")
            .says("set XDG_RUNTIME_DIR")
            .says("--socket");
    }
}

#[test]
fn if_no_daemon_answers_and_none_may_be_started_every_socket_is_named() {
    let Some(machine) = Machine::new() else { return };
    let variables = &[("XDG_RUNTIME_DIR", "/run/x"), ("PFS_AUTOSTART", "0")];
    let run = machine.pfs(ROOT, variables).arg("ls").run().exits(5);
    run.says(
        "no daemon answers on /run/x/pfs/pfsd.sock, /run/user/0/pfs/pfsd.sock, /tmp/pfs-0/pfsd.sock or \
         /run/pfs/pfsd.sock; start one with pfsd, or unset PFS_AUTOSTART",
    );
    assert!(machine.sockets().is_empty());
}

#[test]
fn a_user_without_a_daemon_uses_the_system_daemon() {
    let Some(machine) = Machine::with_users() else { return };
    machine.directory("/run/pfs", OTHER, 0o755);
    let config = machine.outside("/run/pfs/pfsd.toml");
    std::fs::write(&config, "[listen]\nsocket_mode = \"0666\"\n").unwrap();
    let arguments = ["--config", "/run/pfs/pfsd.toml", "--socket", "/run/pfs/pfsd.sock"];
    let system = machine.pfsd(OTHER, BARE).args(arguments).spawn();
    eventually("the system's daemon answers", || machine.daemon("/run/pfs/pfsd.sock").is_some());
    for user in [ROOT, USER] {
        machine.pfs(user, BARE).args(["write", S]).stdin("x").run().exits(0).quietly();
    }
    assert_eq!(machine.sockets(), ["/run/pfs/pfsd.sock"]);
    // A daemon of the user takes precedence.
    let own = machine.pfsd(USER, BARE).spawn();
    eventually("the user's daemon answers", || {
        machine.daemon("/tmp/pfs-12345/pfsd.sock").is_some()
    });
    machine.pfs(USER, BARE).args(["stat", S]).run().exits(3).says("/tmp/pfs-12345/pfsd.sock");
    drop((system, own));
}

#[test]
fn root_leaves_a_user_s_runtime_directory_alone() {
    let Some(machine) = Machine::with_users() else { return };
    machine.directory("/run/user/12345", USER, 0o700);
    // The environment that `su` and `sudo -E` leave behind.
    let variables = &[("XDG_RUNTIME_DIR", "/run/user/12345")];
    let run = machine.pfs(ROOT, variables).args(["write", S]).stdin("root's").run().exits(0);
    run.says("/run/user/12345 belongs to user 12345; starting the daemon on /tmp/pfs-0/pfsd.sock");
    assert!(!machine.outside("/run/user/12345/pfs").exists());

    machine.pfs(USER, variables).args(["write", S]).stdin("the user's").run().exits(0).quietly();
    assert_eq!(machine.sockets(), ["/run/user/12345/pfs/pfsd.sock", "/tmp/pfs-0/pfsd.sock"]);
    // Neither user trusts the other's daemon.
    let read = ["-v", "cat", "--stream", "--until", "caught-up", S];
    let root = machine.pfs(ROOT, variables).args(read).run().exits(0);
    assert_eq!(root.text(), "root's");
    root.says(
        "answers on /tmp/pfs-0/pfsd.sock (passed over: /run/user/12345/pfs belongs to user 12345)",
    );
    let user = machine.pfs(USER, variables).args(read).run().exits(0);
    assert_eq!(user.text(), "the user's");
}

#[test]
fn a_user_whom_root_locked_out_of_the_runtime_directory_is_served_elsewhere() {
    let Some(machine) = Machine::with_users() else { return };
    machine.directory("/run/user/12345", USER, 0o700);
    machine.directory("/run/user/12345/pfs", ROOT, 0o700);
    let variables = &[("XDG_RUNTIME_DIR", "/run/user/12345")];
    let run = machine.pfs(USER, variables).args(["write", S]).stdin("x").run().exits(0);
    run.says(
        "/run/user/12345/pfs belongs to user 0; starting the daemon on /tmp/pfs-12345/pfsd.sock",
    );
}

#[test]
fn a_daemon_of_another_user_in_tmp_is_not_trusted() {
    let Some(machine) = Machine::with_users() else { return };
    machine.directory("/tmp/pfs-12345", OTHER, 0o755);
    let config = machine.outside("/tmp/pfs-12345/pfsd.toml");
    std::fs::write(&config, "[listen]\nsocket_mode = \"0666\"\n").unwrap();
    let arguments =
        ["--config", "/tmp/pfs-12345/pfsd.toml", "--socket", "/tmp/pfs-12345/pfsd.sock"];
    let _trap = machine.pfsd(OTHER, BARE).args(arguments).spawn();
    eventually("the trap is set", || machine.daemon("/tmp/pfs-12345/pfsd.sock").is_some());
    let run = machine.pfs(USER, BARE).args(["write", S]).stdin("secret").run().exits(5);
    run.says("/tmp/pfs-12345 belongs to user 12346").says("XDG_RUNTIME_DIR");
    // With a directory of their own, the user can work.
    machine.directory("/run/user/12345", USER, 0o700);
    machine.pfs(USER, BARE).args(["write", S]).stdin("secret").run().exits(0);
    assert!(machine.daemon("/run/user/12345/pfs/pfsd.sock").is_some());
}
