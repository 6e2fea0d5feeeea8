//! mpv as a player of a stream's URL, without video and audio output.

use harness::{Daemon, Pfs, Running, eventually};

use super::{
    S,
    film::{fragmented_mp4, ogg, transport_stream, webm},
};

/// Starts mpv, which prints its position in the film repeatedly.
#[track_caller]
fn playing(daemon: &Daemon) -> Running {
    let silent = [
        "--no-config",
        "--vo=null",
        "--ao=null",
        "--no-ytdl",
        "--msg-level=all=error,statusline=status",
    ];
    Pfs::new("mpv")
        .args(silent)
        .arg("--term-status-msg=at ${=time-pos} ")
        .arg(daemon.url(S))
        .spawn()
}

/// Returns the last position that mpv printed, in seconds; 0 before the first one.
fn position(output: &str) -> f64 {
    let positions =
        output.split("at ").skip(1).filter_map(|text| text.split_once(' ')?.0.parse().ok());
    positions.last().unwrap_or_default()
}

#[test]
#[ignore = "needs mpv and ffmpeg: scripts/programs"]
fn mpv_plays_a_live_stream_from_its_start_to_its_end() {
    for film in [transport_stream(), webm()] {
        let daemon = Daemon::with_http();
        let (first, second) = film.split_at(film.len() / 2);
        daemon.append(S, first);
        let mut player = playing(&daemon);
        eventually("the first second is played", || {
            assert!(player.runs(), "mpv ended at once: {}", player.stderr());
            position(&player.stderr()) > 1.0
        });
        daemon.append(S, second);
        daemon.close(S);
        let played = player.finish().exits(0);
        assert!(position(&played.stderr) > 3.5, "{}", played.stderr);
    }
}

#[test]
#[ignore = "needs mpv and ffmpeg: scripts/programs"]
fn mpv_plays_a_live_stream_that_it_joins_late_to_its_end() {
    for film in [transport_stream(), webm(), fragmented_mp4(), ogg()] {
        let daemon = Daemon::with_http();
        // The ring holds two of the four seconds.
        let ring = film.len() as u64 / 2;
        daemon.create_with_buffers(S, ring, ring);
        for chunk in film.chunks(1000) {
            daemon.append(S, chunk);
        }
        assert!(daemon.stat_number(S, "tail") > 0);
        let mut player = playing(&daemon);
        eventually("some of it is played", || {
            assert!(player.runs(), "mpv ended at once: {}", player.stderr());
            position(&player.stderr()) > 0.0
        });
        daemon.close(S);
        let played = player.finish().exits(0);
        assert!(!played.stderr.contains("rror"), "{}", played.stderr);
        // The ring may hold only the last of the key frames, which come every second.
        assert!(position(&played.stderr) > 0.8, "{}", played.stderr);
    }
}
