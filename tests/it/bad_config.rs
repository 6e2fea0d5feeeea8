//! Invalid configurations: the daemon refuses them, and the error names the cause.

use std::path::Path;

use harness::{Finished, Pfs, binary};

fn started_with(config: &Path, check: bool) -> Finished {
    let socket = config.with_file_name("pfsd.sock");
    let pfsd = Pfs::new(binary("pfsd")).arg("--config").arg(config).arg("--socket").arg(&socket);
    let run = if check { pfsd.arg("--check-config").run() } else { pfsd.run() };
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!socket.exists());
    run
}

#[test]
fn errors_name_the_key_the_line_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pfsd.toml");
    let table =
        "[plugins.streamfs]\nenabled = true\npath = \"/streamfs\"\n[plugins.streamfs.config]\n";
    let cases: [(String, &[&str]); 14] = [
        (format!("{table}ring_bufer_size = 1\n"), &["ring_bufer_size", "5", "ring_buffer_size"]),
        (format!("{table}ring_buffer_size = \"1XB\"\n"), &["ring_buffer_size", "5", "KB"]),
        (format!("{table}ring_buffer_size = 0\n"), &["ring_buffer_size", "5"]),
        (format!("{table}channel_buffer_size = -1\n"), &["channel_buffer_size", "5"]),
        (format!("{table}channel_buffer_size = true\n"), &["channel_buffer_size", "5"]),
        (
            format!("{table}channel_buffer_size = \"99999999999GB\"\n"),
            &["channel_buffer_size", "5"],
        ),
        ("[plugins.streamfs]\nenabled = \"yes\"\n".into(), &["enabled", "2"]),
        ("[plugins.streamfs]\npath = \"streamfs\"\n".into(), &["path", "2"]),
        ("[plugins.streamfs]\npath = \"/a/../b\"\n".into(), &["path", "2"]),
        ("[plugins.other]\nenabled = true\n".into(), &["other", "1"]),
        ("[limit]\nmax_streams = 1\n".into(), &["limit", "1", "limits"]),
        ("[limits]\nmax_streams = \"many\"\n".into(), &["max_streams", "2"]),
        ("[listen]\nsocket_mode = \"0999\"\n".into(), &["socket_mode", "2"]),
        ("[listen\n".into(), &["1"]),
    ];
    for (toml, parts) in cases {
        std::fs::write(&config, &toml).unwrap();
        for check in [true, false] {
            let run = started_with(&config, check);
            assert_eq!(run.code, 1, "{toml}\n{}", run.stderr);
            let said = format!("{}{}", run.text(), run.stderr);
            for part in parts.iter().chain(&["pfsd.toml"]) {
                assert!(
                    said.contains(part),
                    "nothing of {part:?} in what is said of\n{toml}:\n{said}"
                );
            }
        }
    }
}

#[test]
fn a_configuration_that_is_not_a_file_is_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    let folder = dir.path().join("folder.toml");
    std::fs::create_dir(&folder).unwrap();
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    for (config, name) in
        [(missing, "missing.toml"), (folder, "folder.toml"), (binary, "binary.toml")]
    {
        for check in [true, false] {
            let run = started_with(&config, check);
            assert_eq!(run.code, 1, "{name}: {}", run.stderr);
            run.says(name);
        }
    }
}

#[test]
fn check_config_accepts_a_valid_configuration_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pfsd.toml");
    let toml = "
[plugins.streamfs]
enabled = true
path = \"/streamfs\"

  [plugins.streamfs.config]
  channel_buffer_size = \"512KB\"
  ring_buffer_size = 1048576

[listen]
socket_mode = \"0660\"

[limits]
max_streams = 1_000_000
max_memory = \"1GB\"
max_connections = 16384
";
    for text in ["", toml] {
        std::fs::write(&config, text).unwrap();
        assert_eq!(started_with(&config, true).code, 0);
    }
}
