//! Terminal checks: whether it can be drawn on, and whether other programs may write to it.

use std::{env, io::IsTerminal};

use rustix::{
    fd::AsFd,
    fs::{FileType, fstat},
    stdio::stderr,
    termios::isatty,
};

use crate::session;

/// Returns true if lines on this file can be redrawn.
pub(crate) fn is_drawable(file: &impl IsTerminal) -> bool {
    file.is_terminal() && env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Returns true if other output may appear on the terminal because of this standard descriptor: it
/// is a terminal itself, or a program at the other end of a pipe may print there, such as `grep` in
/// `pfs cat /streamfs/log | grep ERROR`.
pub(crate) fn is_shared_by(descriptor: impl AsFd) -> bool {
    let Ok(stat) = fstat(&descriptor) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory | FileType::BlockDevice => false,
        FileType::CharacterDevice => isatty(descriptor),
        _ => true,
    }
}

/// Returns true if this process is in the background of the terminal on its standard error. The
/// terminal then belongs to another program.
pub(crate) fn is_in_background() -> bool {
    session::is_in_foreground(stderr()).is_ok_and(|is_foreground| !is_foreground)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::pipe, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn pipes_and_sockets_share_the_terminal_and_files_do_not() {
        for path in ["Cargo.toml", "/dev/null"] {
            assert!(!is_shared_by(File::open(path).unwrap()), "{path}");
        }
        let (reader, writer) = pipe().unwrap();
        assert!(is_shared_by(reader) && is_shared_by(writer));
        let (one, _) = UnixStream::pair().unwrap();
        assert!(is_shared_by(one));
    }
}
