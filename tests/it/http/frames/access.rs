//! Tokens, and which servers see them.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use harness::{Daemon, Pfs};

use super::{S, pfs_at};

const READER: &str = "a-reader-s-long-token";
const WRITER: &str = "a-writer-s-long-token";

/// Starts a daemon with both tokens. The folder has one file for each token and one with a
/// wrong token.
fn guarded() -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let known = file("known", format!("{READER} read\n{WRITER} read,write /streamfs/s\n"));
    file("reader", format!("{READER}\n"));
    file("writer", WRITER.to_owned());
    file("wrong", "a-wrong-and-long-token\n".to_owned());
    (Daemon::with_http_config(&format!("[auth]\ntoken_file = {known:?}\n")), folder)
}

#[test]
fn a_command_does_what_its_token_allows_and_otherwise_says_what_is_missing() {
    let (daemon, folder) = guarded();
    let url = daemon.url("");
    let token = |name: &str| folder.path().join(name);
    let with = |name: &str, args: &[&str]| -> Pfs {
        pfs_at(&url, []).arg("--token-file").arg(token(name)).args(args).stdin("x")
    };
    for command in
        [&["ls"][..], &["write", S], &["cat", "--stream", S], &["stat", S], &["create", S]]
    {
        pfs_at(&url, []).args(command).run().exits(1).says("--token-file");
        with("wrong", command).run().exits(1).says("token");
    }
    with("missing", &["ls"]).run().exits(1).says("missing");
    assert!(daemon.streams().is_empty());

    with("writer", &["write", S]).run().exits(0).quietly();
    with("writer", &["write", "/streamfs/other"]).run().exits(1).says("/streamfs/other");
    for command in [&["write", S][..], &["create", "/streamfs/t"], &["close", S], &["rm", S]] {
        with("reader", command).run().exits(1).says("write");
    }
    assert_eq!((daemon.streams(), daemon.head(S)), (vec![S.to_owned()], 1));
    for (name, code) in [("reader", 0), ("writer", 1)] {
        with(name, &["ls"]).run().exits(code);
    }
    for command in [&["cat", "--stream", "--until", "caught-up", S][..], &["stat", S]] {
        with("reader", command).run().exits(0).quietly();
    }
    let from_variable = pfs_at(&url, ["ls"]).env("PFS_TOKEN_FILE", token("reader"));
    from_variable.run().exits(0).quietly();
}

#[test]
fn no_token_is_sent_to_the_target_of_a_redirect() {
    let (elsewhere, here) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    elsewhere.set_nonblocking(true).unwrap();
    let target = format!("http://{}/v1/frames", elsewhere.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"
    );
    let url = format!("http://{}", here.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut client = here.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        client.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let run = pfs_at(&url, ["ls"]).env("PFS_TOKEN_FILE", &token).run().exits(1);
    run.says(&target);
    let head = server.join().unwrap().to_lowercase();
    assert!(head.contains("authorization: bearer secret"), "{head}");
    assert!(elsewhere.accept().is_err(), "the redirect was followed");
}
