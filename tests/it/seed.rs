//! The document from which pfs grew: its commands and its configuration, as typed.

use std::os::unix::fs::PermissionsExt as _;

use harness::{Autostarted, Daemon, Pfs, Running, digest, eventually, folder, noise};
use tempfile::TempDir;

/// User with a shell and a folder, and without a daemon.
struct User {
    // Declared first, so that the daemon is killed before its folder is removed.
    _daemon: Autostarted,
    dir: TempDir,
}

impl User {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A fake player that saves its input.
        let player = dir.path().join("ffplay");
        std::fs::write(&player, "#!/bin/sh\ntest \"$1\" = - && exec cat > played\n").unwrap();
        std::fs::set_permissions(&player, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { _daemon: Autostarted::for_user(dir.path()), dir }
    }

    fn types(&self, line: &str) -> Running {
        let path = std::env::join_paths([
            folder(),
            self.dir.path().to_owned(),
            "/usr/bin".into(),
            "/bin".into(),
        ]);
        let shell = Pfs::shell(line).current_dir(self.dir.path()).env("PATH", path.unwrap());
        shell.may_start_daemon(self.dir.path()).spawn()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn every_command_of_the_document_works_as_typed() {
    let user = User::new();
    let data = noise(1, 3 * 1024 * 1024);
    std::fs::write(user.dir.path().join("file"), &data).unwrap();

    user.types("cat file | pfs write --stream /streamfs/stream").finish().exits(0).quietly();
    user.types("echo \"data\" | pfs write /streamfs/stream").finish().exits(0).quietly();
    let all = [&data[..], b"data\n"].concat();

    // "Readers wait indefinitely for new data": none of these ends before the stream does.
    let mut readers = [
        user.types("pfs cat --stream /streamfs/stream"),
        user.types("pfs cat --stream /streamfs/stream > output.dat"),
        user.types("pfs cat --stream /streamfs/stream | ffplay -"),
    ];
    eventually("all have read all", || {
        let read = [
            readers[0].stdout_len(),
            user.file("output.dat").len() as u64,
            user.file("played").len() as u64,
        ];
        read == [all.len() as u64; 3]
    });
    assert!(readers.iter_mut().all(Running::runs));

    let listed = user.types("pfs ls /streamfs").finish().exits(0);
    assert_eq!(listed.text(), "/streamfs/stream\n");
    let stat = user.types("pfs stat /streamfs/stream").finish().exits(0);
    assert!(stat.text().contains("/streamfs/stream"));

    // "Graceful shutdown: closing stream sends EOF to all readers".
    user.types("pfs close /streamfs/stream").finish().exits(0);
    let [plain, file, player] = readers;
    assert_eq!(digest(&plain.finish().exits(0).stdout), digest(&all));
    file.finish().exits(0);
    player.finish().exits(0);
    assert_eq!(digest(&user.file("output.dat")), digest(&all));
    assert_eq!(digest(&user.file("played")), digest(&all));

    user.types("pfs rm /streamfs/stream").finish().exits(0);
    assert_eq!(user.types("pfs ls /streamfs").finish().exits(0).text(), "");
    user.types("pfs stat /streamfs/stream").finish().exits(3);
}

#[test]
fn cat_without_stream_fails_and_says_use_stream_mode() {
    let user = User::new();
    user.types("echo data | pfs write /streamfs/stream").finish().exits(0);
    let run = user.types("pfs cat /streamfs/stream").finish().says("use stream mode");
    assert_ne!(run.code, 0);
}

#[test]
fn the_configuration_of_the_document_works_as_it_is() {
    let daemon = Daemon::with_config(
        r#"
  [plugins.streamfs]
  enabled = true
  path = "/streamfs"

    [plugins.streamfs.config]
    # Channel buffer size per reader (supports units: KB, MB, GB or raw bytes)
    # Examples: "512KB", "1MB", "6MB", or 524288 (bytes)
    channel_buffer_size = "512KB"

    # Ring buffer size for historical data (supports units: KB, MB, GB or raw bytes)
    # Examples: "1MB", "4MB", or 1048576 (bytes)
    ring_buffer_size = "1MB"
"#,
    );
    daemon.pfs(["write", "/streamfs/stream"]).stdin("data").run().exits(0);
    assert_eq!(daemon.stat_number("/streamfs/stream", "channel_buffer_size"), 512 * 1024);
    assert_eq!(daemon.stat_number("/streamfs/stream", "ring_buffer_size"), 1024 * 1024);
}
