//! The real daemon with widely used programs from Debian: `scripts/programs`.
//!
//! curl is not among them: `scripts/test` installs it, and its tests are in `http`.

mod chromium;
mod ffmpeg;
mod film;
mod go;
mod mpv;
mod vlc;
mod wget;

/// The stream of each test.
const S: &str = "/streamfs/s";
