//! Pseudo-terminal: shows what a user sees, and presses keys.

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    process::Stdio,
    sync::{Arc, Mutex},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::eventually;

/// Terminal on which a test runs commands: see [`Pfs::on_terminal`](crate::Pfs::on_terminal).
pub struct Terminal {
    master: OwnedFd,
    // Held open, because reading the master fails while no process has the terminal open.
    end: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Opens a terminal with 24 lines of 80 columns.
    pub fn open() -> Self {
        Self::with_size(24, 80)
    }

    /// Opens a terminal with this many lines and columns.
    pub fn with_size(rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("our own");
        unlockpt(&master).expect("our own");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let end = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let mut output = File::from(master.try_clone().expect("a descriptor is left"));
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let theirs = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends when this terminal is dropped and no process has it open.
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                theirs.lock().expect("nobody panics with it").extend_from_slice(&buffer[..len]);
            }
        });
        let terminal = Self { master, end: end.expect("the other end"), shown };
        terminal.resize(rows, columns);
        terminal
    }

    /// Returns the end for processes.
    pub(crate) fn end(&self) -> Stdio {
        self.end.try_clone().expect("a descriptor is left").into()
    }

    /// Returns everything written to the terminal so far, with escape sequences.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("nobody panics with it")).into_owned()
    }

    /// Waits for the output of all processes that have ended, and returns everything written
    /// so far.
    pub fn all_shown(&self) -> String {
        const MARK: &str = "\x1b]mark\x07";
        rustix::io::write(&self.end, MARK.as_bytes()).expect("it is open");
        eventually("all is shown", || self.shown().contains(MARK));
        self.shown().replace(MARK, "")
    }

    /// Presses keys.
    pub fn press(&self, keys: &str) {
        assert_eq!(
            rustix::io::write(&self.master, keys.as_bytes()).expect("it is open"),
            keys.len()
        );
    }

    /// Returns the terminal settings, as `stty` shows them.
    pub fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.end).expect("it is a terminal"))
    }

    /// Resizes the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("it is a terminal");
    }
}
