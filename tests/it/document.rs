//! `/streamfs/README`, and `cat` without `--stream`.

use harness::{Daemon, eventually};

const README: &str = "/streamfs/README";

#[test]
fn plain_cat_prints_the_document() {
    let daemon = Daemon::start();
    let run = daemon.pfs(["cat", README]).run().exits(0).quietly();
    for part in ["pfs write --stream", "pfs cat --stream", "ring_buffer_size"] {
        assert!(run.text().contains(part), "nothing of {part:?} in the document");
    }
}

#[test]
fn plain_cat_of_a_stream_says_how_to_read_it() {
    let daemon = Daemon::start();
    daemon.create("/streamfs/s");
    let run = daemon
        .pfs(["cat", "/streamfs/s"])
        .run()
        .exits(2)
        .says("use stream mode: pfs cat --stream /streamfs/s");
    assert_eq!(run.stdout, b"");
}

#[test]
fn plain_cat_of_a_missing_path_exits_with_3() {
    let daemon = Daemon::start();
    daemon.pfs(["cat", "/streamfs/none"]).run().exits(3).says("/streamfs/none");
}

#[test]
fn a_document_is_not_a_stream() {
    let daemon = Daemon::start();
    for args in [
        &["write", README][..],
        &["write", "--stream", README],
        &["create", README],
        &["close", README],
        &["rm", README],
        &["cat", "--stream", README],
    ] {
        let mut run = daemon.pfs([]).args(args).stdin("x").spawn();
        eventually(&format!("{args:?} ends"), || !run.runs());
        let run = run.finish();
        assert_ne!(run.code, 0, "{args:?}");
        assert!(run.stderr.contains(README), "{args:?}: {}", run.stderr);
    }
    daemon.pfs(["cat", README]).run().exits(0);
}
