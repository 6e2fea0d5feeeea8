//! Examples of the client: each does what its documentation says.

use harness::{Autostarted, Daemon, Finished, Pfs, binary};

/// Runs an example of the client against this daemon.
fn example(daemon: &Daemon, name: &str, arguments: &[&str]) -> Finished {
    let program = binary(&format!("examples/{name}"));
    Pfs::new(program).args(arguments).env("PFS_SOCKET", daemon.socket()).run()
}

#[test]
fn a_reader_that_is_killed_again_and_again_gets_everything_once() {
    let daemon = Daemon::start();
    let run = example(&daemon, "resume", &[]).exits(0).quietly();
    let lines: Vec<&str> = run.text().lines().collect();
    assert_eq!(lines.first(), Some(&"run 1 begins at offset 0, and was killed"));
    let killed = lines.iter().filter(|line| line.ends_with("and was killed")).count();
    assert!(killed >= 2, "{lines:#?}");
    let last = format!("the results of {} runs have each number once, in order", killed + 1);
    assert_eq!(lines.last(), Some(&last.as_str()));
    daemon.pfs(["ls"]).run().exits(0).quietly();
    assert_eq!(daemon.pfs(["ls"]).run().text(), "", "it leaves nothing behind");
}

#[test]
fn a_daemon_that_an_example_starts_keeps_no_descriptor_of_its_caller_open() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let lock = user.path().join("lock");
    let example = Pfs::new(binary("examples/resume")).may_start_daemon(user.path());
    example.redirected(&format!("9>{}", lock.display())).run().exits(0).quietly();
    let files = format!("/proc/{}/fd", daemon.pid().expect("it still runs"));
    let open: Vec<_> = std::fs::read_dir(files).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!open.is_empty());
    let kept =
        open.iter().filter(|file| std::fs::read_link(file).is_ok_and(|file| file == lock)).count();
    assert_eq!(kept, 0, "{open:?}");
}

#[test]
fn a_program_starts_no_daemon_where_the_environment_forbids_it() {
    let user = tempfile::tempdir().unwrap();
    let daemon = Autostarted::for_user(user.path());
    let example = Pfs::new(binary("examples/resume")).may_start_daemon(user.path());
    let run = example.env("PFS_AUTOSTART", "0").run().exits(1);
    run.says("Forbidden").says(user.path().to_str().unwrap());
    assert_eq!(daemon.pid(), None);
}

#[test]
fn a_dashboard_shows_the_load_of_this_machine_and_tells_the_other_process_when_to_stop() {
    let daemon = Daemon::start();
    let run = example(&daemon, "live_dashboard", &["4", "20"]).exits(0).quietly();
    let lines: Vec<&str> = run.text().lines().collect();
    let (first, rest) = lines.split_first().unwrap();
    assert_eq!(*first, "Monitoring system metrics...");
    let (shown, end) = rest.split_at(4);
    for line in shown {
        let stats: Vec<f64> = line
            .strip_prefix("CPU: ")
            .map(|line| line.replace(" Memory: ", "").replace(" Disk: ", ""))
            .unwrap_or_default()
            .split('|')
            .filter_map(|number| number.trim().strip_suffix('%')?.parse().ok())
            .collect();
        assert!(
            stats.len() == 3 && stats.iter().all(|number| (0.0..=100.0).contains(number)),
            "{line}"
        );
        assert!(stats[1] > 0.0, "no memory is used: {line}");
    }
    assert_eq!(end.len(), 1, "{lines:#?}");
    assert!(
        end[0].starts_with("pushed ") && end[0].ends_with(", the last one to 1 dashboard(s)"),
        "{}",
        end[0]
    );
    assert_eq!(daemon.pfs(["ls"]).run().exits(0).text(), "", "it leaves nothing behind");
}
