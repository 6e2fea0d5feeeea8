//! The handshake: every version of pfs understands a `Hello`.

use bytes::Bytes;
use pfs_proto::{Frame, Hello, MessageError, Reply, Request, VERSION};

use crate::{encoded, frames};

const HELLO: &[u8] = b"pfs\0\x01\0\x02\0\x07\0\0\0\0\0\0\0";

fn decode(payload: &[u8]) -> Result<Request, MessageError> {
    Request::decode(Frame { kind: 0x01, payload: Bytes::copy_from_slice(payload) })
}

#[test]
fn the_layout_of_hello_never_changes() {
    let hello = Hello { min_version: 1, max_version: 2, capabilities: 7 };
    for (wire, kind) in [
        (encoded(|out| Request::Hello(hello).encode(out)), 0x01),
        (encoded(|out| Reply::Hello(hello).encode(out)), 0x81),
    ] {
        assert_eq!(frames(&wire), [Frame { kind, payload: Bytes::from_static(HELLO) }]);
    }
}

#[test]
fn fields_that_a_later_version_adds_to_hello_are_ignored() {
    let longer = [HELLO, b"and much more"].concat();
    assert_eq!(decode(&longer), decode(HELLO));
    let Ok(Request::Hello(hello)) = decode(&longer) else { panic!("not a hello") };
    assert_eq!(hello.common_version(), Some(VERSION));
}

#[test]
fn a_hello_with_only_later_versions_decodes_so_that_it_can_be_refused() {
    let Ok(Request::Hello(hello)) = decode(b"pfs\0\x07\0\x09\0\0\0\0\0\0\0\0\0") else {
        panic!("not a hello")
    };
    assert_eq!((hello.min_version, hello.max_version, hello.common_version()), (7, 9, None));
}

#[test]
fn a_peer_that_does_not_begin_with_the_magic_is_refused() {
    assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Err(MessageError::BadMagic));
    assert_eq!(decode(b""), Err(MessageError::BadMagic));
    assert_eq!(decode(&HELLO[..15]), Err(MessageError::Truncated { kind: 0x01 }));
}
