//! A spare descriptor for when the system has none left: it is closed to accept a client, and to
//! tell that client why it is not served.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::{Errno, read, write},
    net::{SocketFlags, accept_with},
};

/// Bytes of a request that are read before its connection is closed. If a system closes a
/// connection with unread bytes, it resets the connection, and the client may not see the reason.
const REQUEST: usize = 16 * 1024;

/// A descriptor in reserve, if there was one left.
#[derive(Debug)]
pub(crate) struct Spare(Option<OwnedFd>);

impl Spare {
    /// Takes a descriptor, if there is one.
    pub(crate) fn new() -> Self {
        Self(File::open("/dev/null").ok().map(OwnedFd::from))
    }

    /// Refuses the client that could not be accepted because of `error`, and sends it `words`.
    /// Returns false, and leaves the client waiting, if the error was another one or there is
    /// no spare descriptor.
    pub(crate) fn refuse(&mut self, error: &io::Error, listener: impl AsFd, words: &[u8]) -> bool {
        let is_full = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if !is_full || self.0.take().is_none() {
            return false;
        }
        let refused =
            accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map(|client| {
                // A client that has gone by now need not be told.
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
    fn a_client_is_told_why_it_is_not_served_and_the_descriptor_is_taken_back() {
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
