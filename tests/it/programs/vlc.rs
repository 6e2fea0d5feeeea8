//! VLC as a player of a stream's URL. It writes the pictures and the sound that it plays to files.

use std::{
    collections::HashSet,
    fs::{Permissions, create_dir, read, read_dir, set_permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use harness::{Daemon, Pfs, Running, eventually};
use rustix::process::geteuid;

use super::{
    S,
    film::{fragmented_mp4, transport_stream, webm},
};

/// Folder for what VLC plays. VLC refuses to run as root, so any user may write there.
fn folder(daemon: &Daemon) -> PathBuf {
    let folder = daemon.dir().join("vlc");
    create_dir(&folder).unwrap();
    set_permissions(daemon.dir(), Permissions::from_mode(0o755)).unwrap();
    set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Starts VLC, which ends at the end of the stream.
#[track_caller]
fn playing(daemon: &Daemon, folder: &Path) -> Running {
    let player = if geteuid().is_root() {
        Pfs::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups", "vlc"])
    } else {
        Pfs::new("vlc")
    };
    let quiet = ["--intf=dummy", "--no-dbus", "--play-and-exit", "--vout=dummy", "--aout=afile"];
    let pictures = ["--video-filter=scene", "--scene-format=png", "--scene-ratio=1"];
    player
        .args(quiet)
        .args(pictures)
        .arg(format!("--scene-path={}", folder.display()))
        .arg(format!("--audiofile-file={}", folder.join("sound.wav").display()))
        .arg(daemon.url(S))
        .env("HOME", folder)
        .spawn()
}

/// Number of different pictures that VLC has shown. All pictures of the film differ.
fn pictures(folder: &Path) -> usize {
    let files = read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let pictures = files.filter(|file| file.extension().is_some_and(|kind| kind == "png"));
    pictures.map(|picture| read(picture).unwrap()).collect::<HashSet<_>>().len()
}

/// Seconds of sound that VLC has played.
fn sound(folder: &Path) -> f64 {
    const HEADER: usize = 44;
    let file = read(folder.join("sound.wav")).unwrap();
    let rate = u32::from_le_bytes(file[28..32].try_into().unwrap());
    (file.len() - HEADER) as f64 / f64::from(rate)
}

#[test]
#[ignore = "needs vlc and ffmpeg: scripts/programs"]
fn vlc_plays_a_live_stream_that_it_joins_late_to_its_end() {
    for film in [transport_stream(), webm(), fragmented_mp4()] {
        let daemon = Daemon::with_http();
        let folder = folder(&daemon);
        // The ring holds two of the four seconds.
        let ring = film.len() as u64 / 2;
        daemon.create_with_buffers(S, ring, ring);
        for chunk in film.chunks(1000) {
            daemon.append(S, chunk);
        }
        assert!(daemon.stat_number(S, "tail") > 0);
        let mut player = playing(&daemon, &folder);
        eventually("some of it is played", || {
            assert!(player.runs(), "VLC ended at once: {}", player.stderr());
            pictures(&folder) > 0
        });
        daemon.close(S);
        let played = player.finish().exits(0);
        // The ring may hold only the last of the key frames, which come every second.
        let (pictures, seconds) = (pictures(&folder), sound(&folder));
        assert!(pictures > 15 && seconds > 0.8, "{pictures}, {seconds} s: {}", played.stderr);
    }
}
