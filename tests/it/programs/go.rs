//! The Go program in the migration guide, exactly as printed there.

use std::fs;

use harness::{Daemon, Pfs, noise};

use crate::pages;

#[test]
#[ignore = "needs go: scripts/programs"]
fn the_go_program_of_the_migration_guide_sends_its_input_to_its_consumer() {
    let daemon = Daemon::with_http();
    let file = daemon.dir().join("main.go");
    let program = pages::block(pages::MOVING, "go");
    fs::write(&file, program.replace(pages::ADDRESS, &daemon.http_address().to_string())).unwrap();
    let bytes = noise(0, 1024 * 1024);
    // Without downloads, and without files left behind.
    let go = Pfs::new("go").current_dir(daemon.dir()).env("HOME", daemon.dir());
    let go = go
        .env("GOCACHE", daemon.dir().join("cache"))
        .env("GO111MODULE", "off")
        .env("GOPROXY", "off");
    let run = go.args(["run", "main.go"]).stdin(&bytes[..]).run();
    let run = run.exits(0).says("consumer: <nil>");
    assert!(run.stdout == bytes, "the consumer has what was sent");
    assert_eq!(daemon.stat("/streamfs/cam").unwrap()["ring_buffer_size"], 4 * 1024 * 1024);
}
