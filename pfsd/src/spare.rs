//! Spare file descriptor: when the system has no descriptor left, the spare one is closed to accept
//! a client and tell it why it is not served.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::{Errno, read, write},
    net::{SocketFlags, accept_with},
};

/// Bytes of a request to read before its connection is closed. Some systems reset a connection that
/// is closed with unread bytes, and the client may then not see the reason.
const REQUEST: usize = 16 * 1024;

/// A descriptor in reserve, or `None` if none was left.
#[derive(Debug)]
pub(crate) struct Spare(Option<OwnedFd>);

impl Spare {
    /// Reserves a descriptor, if one is left.
    pub(crate) fn new() -> Self {
        Self(File::open("/dev/null").ok().map(OwnedFd::from))
    }

    /// Refuses the client that could not be accepted because of `error`, and sends it `words`.
    /// Returns false, and leaves the client waiting, if the error has another cause or there is no
    /// spare descriptor.
    pub(crate) fn refuse(&mut self, error: &io::Error, listener: impl AsFd, words: &[u8]) -> bool {
        let is_full = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if !is_full || self.0.take().is_none() {
            return false;
        }
        let refused =
            accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map(|client| {
                // Ignore a write error: the client has already gone.
                let _ = write(&client, words);
                let _ = read(&client, &mut [0; REQUEST]);
            });
        *self = Self::new();
        refused.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::net::{UnixListener, UnixStream},
    };

    use super::*;

    #[test]
    fn a_refused_client_is_told_why_and_the_spare_descriptor_is_reserved_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut spare = Spare::new();
        for _ in 0..3 {
            let mut client = UnixStream::connect(&path).unwrap();
            assert!(!spare.refuse(&Errno::CONNABORTED.into(), &listener, b"full"));
            assert!(spare.refuse(&Errno::MFILE.into(), &listener, b"full"));
            let mut told = String::new();
            client.read_to_string(&mut told).unwrap();
            assert_eq!(told, "full");
        }
        assert!(spare.0.is_some());
    }
}
