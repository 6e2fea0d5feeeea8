//! Exit codes after a signal, as in a shell.

use harness::{Daemon, Signal, Transport, eventually};

const S: &str = "/streamfs/s";

harness::per_transport! {
    interrupt_ends_with_130_and_terminate_with_143,
}

fn interrupt_ends_with_130_and_terminate_with_143(transport: Transport) {
    let daemon = transport.daemon();
    daemon.append(S, "all");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let reader = daemon.reader(S, []);
        let mut writer = daemon.pfs(["write", "--stream", S]).stdin_pipe().spawn();
        writer.send(b"x");
        eventually("both are at work", || {
            let stat = daemon.stat(S).unwrap();
            reader.stdout_len() > 3 && stat["writers"].as_array().unwrap().len() == 1
        });
        reader.signal(signal);
        reader.finish().exits(code);
        writer.signal(signal);
        writer.finish().exits(code);
        eventually("both are forgotten", || {
            let stat = daemon.stat(S).unwrap();
            stat["readers"].as_array().unwrap().is_empty()
                && stat["writers"].as_array().unwrap().is_empty()
        });
    }
}

#[test]
fn an_interrupted_watch_ends_with_130() {
    let daemon = Daemon::start();
    daemon.create(S);
    let watch = daemon.pfs(["stat", "--watch", S]).spawn();
    eventually("it shows the stream", || String::from_utf8_lossy(&watch.stdout()).contains(S));
    let shown = watch.stdout_len();
    eventually("it draws it again", || watch.stdout_len() > shown);
    watch.signal(Signal::INT);
    watch.finish().exits(130);
}
