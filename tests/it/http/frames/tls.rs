//! `pfs --url https://…`: which certificates it trusts and which one it presents.

use harness::{Daemon, Link, Pfs, digest, eventually, noise};

use super::{
    super::tls::{Authority, Identity},
    S, pfs_at,
};

/// Builds a `pfs` command line that trusts this certificate authority.
fn trusting<const N: usize>(authority: &Authority, url: &str, args: [&str; N]) -> Pfs {
    pfs_at(url, []).arg("--ca-file").arg(authority.root()).args(args)
}

#[test]
fn writers_and_readers_use_tls_and_go_on_when_the_connection_breaks() {
    let authority = Authority::new("our own");
    let daemon = authority.daemon("");
    let link = Link::to(daemon.http_address(), "");
    let (url, broken) = (daemon.url(""), link.url().replace("http:", "https:"));
    let reader = trusting(&authority, &broken, ["cat", "--stream", "--slow", "block", S]).spawn();
    eventually("it waits", || reader.stderr().contains(S));
    let data = noise(1, 6 * 1024 * 1024);
    let mut writer =
        trusting(&authority, &url, ["write", "--stream", "--close", S]).stdin_pipe().spawn();
    writer.send(&data[..3 * 1024 * 1024]);
    eventually("it has read all", || reader.stdout_len() == 3 * 1024 * 1024);
    link.cut();
    eventually("it goes on", || reader.stderr().contains("resumed"));
    writer.send(&data[3 * 1024 * 1024..]);
    writer.finish().exits(0).quietly();
    assert_eq!(digest(&reader.finish().exits(0).stdout), digest(&data));
    let listed = trusting(&authority, &url, ["ls"]).run().exits(0).quietly();
    assert_eq!(listed.text(), "/streamfs/s\n");
    let from_variable = pfs_at(&url, ["ls"]).env("PFS_CA_FILE", authority.root());
    from_variable.run().exits(0).quietly();
}

#[test]
fn a_daemon_with_an_unknown_certificate_is_not_trusted() {
    let (authority, other) = (Authority::new("our own"), Authority::new("somebody else's"));
    let daemon = authority.daemon("");
    let url = daemon.url("");
    pfs_at(&url, ["ls"]).run().exits(1).says("--ca-file").says(&url);
    trusting(&other, &url, ["ls"]).run().exits(1).says("--ca-file");
    trusting(&authority, &url.replace("127.0.0.1", "[::ffff:127.0.0.1]"), ["ls"]).run().exits(1);
    let no_file = daemon.dir().join("pfsd.toml");
    pfs_at(&url, ["ls"]).arg("--ca-file").arg(&no_file).run().exits(1).says("pfsd.toml");
}

#[test]
fn a_daemon_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new("our own");
    let daemon = authority.mutual();
    let one_file = |daemon: &Daemon, Identity { certificate, key }: &Identity| {
        let file = daemon.dir().join(certificate.file_name().unwrap());
        let both = [certificate, key].map(|part| std::fs::read_to_string(part).unwrap());
        std::fs::write(&file, both.concat()).unwrap();
        file
    };
    let url = daemon.url("");
    trusting(&authority, &url, ["ls"]).run().exits(1).says("certificate");
    let expired = one_file(&daemon, &authority.client("expired", 2001));
    let run = trusting(&authority, &url, ["ls"]).arg("--client-cert-file").arg(expired).run();
    run.exits(1).says("expired");
    let fine = one_file(&daemon, &authority.client("fine", 4095));
    let run = trusting(&authority, &url, ["ls"]).env("PFS_CLIENT_CERT_FILE", fine).run();
    run.exits(0).quietly();
}
