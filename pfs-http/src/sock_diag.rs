//! State of a TCP socket as the kernel sees it, queried through sock_diag(7), the protocol
//! of `ss(8)`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const ALL_STATES: u32 = u32::MAX;
const NO_COOKIE: u64 = u64::MAX;
const REQUEST_LEN: usize = 72;

const LISTENS: u8 = 10;

/// Byte positions in the kernel's answer: message type, socket state, number of bytes that the peer
/// has not acknowledged, and inode of the socket (0 if no process holds it).
const TYPE: std::ops::Range<usize> = 4..6;
const STATE: usize = 17;
const WRITE_QUEUE: std::ops::Range<usize> = 76..80;
const INODE: std::ops::Range<usize> = 84..88;

/// Whether no process holds the socket at `address` that is connected to `peer`.
///
/// # Errors
///
/// The state of the socket is unknown: the system call failed, or the kernel has no socket between
/// these addresses.
pub(super) fn is_orphan(address: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    Ok(field(address, peer, INODE)? == [0; 4])
}

/// Whether the peer has acknowledged all bytes written to the socket at `address`.
///
/// # Errors
///
/// The state of the socket is unknown, as for [`is_orphan`].
pub(super) fn is_acknowledged(address: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    Ok(field(address, peer, WRITE_QUEUE)? == [0; 4])
}

/// Reads a field of the kernel's answer about a socket.
fn field(
    address: SocketAddr,
    peer: SocketAddr,
    place: std::ops::Range<usize>,
) -> io::Result<[u8; 4]> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request(address, peer), SendFlags::empty(), &kernel)?;
    // The kernel has queued its answer before `sendto` returned.
    let mut answer = [0; 256];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let answer = answer.get(..len).unwrap_or_default();
    let unknown = || io::Error::from(io::ErrorKind::NotFound);
    if answer.get(TYPE) != Some(&SOCK_DIAG_BY_FAMILY.to_ne_bytes()) {
        return Err(unknown());
    }
    // Instead of a connection that is gone, the kernel finds the listener that accepted it.
    if answer.get(STATE) == Some(&LISTENS) {
        return Err(unknown());
    }
    answer.get(place).and_then(|field| field.try_into().ok()).ok_or_else(unknown)
}

/// Encodes a `nlmsghdr` and an `inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
fn request(address: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let (source, destination) = (address.ip().to_canonical(), peer.ip().to_canonical());
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut request = Vec::with_capacity(REQUEST_LEN);
    request.extend((REQUEST_LEN as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    request.extend(ALL_STATES.to_ne_bytes());
    request.extend(address.port().to_be_bytes());
    request.extend(peer.port().to_be_bytes());
    for ip in [source, destination] {
        let mut octets = [0; 16];
        match ip {
            IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => octets = ip.octets(),
        }
        request.extend(octets);
    }
    request.extend([0; 4]); // any interface
    request.extend(NO_COOKIE.to_ne_bytes());
    request
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{Shutdown, TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_socket_is_an_orphan_once_its_process_has_closed_it() {
        for listener in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listener) else { continue };
            let port = listener.local_addr().unwrap().port();
            let target = match listener.local_addr().unwrap().ip() {
                ip if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], port)),
                ip => SocketAddr::new(ip, port),
            };
            let client = TcpStream::connect(target).unwrap();
            let (server, remote) = listener.accept().unwrap();
            let local = server.local_addr().unwrap();
            assert!(!is_orphan(remote, local).unwrap(), "{target}: the client is open");
            client.shutdown(Shutdown::Write).unwrap();
            assert!(!is_orphan(remote, local).unwrap(), "{target}: the client can still read");
            drop(client);
            assert!(is_orphan(remote, local).unwrap(), "{target}: no process holds the client");
        }
    }

    #[test]
    fn a_listener_does_not_answer_for_a_connection_that_was_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, remote) = listener.accept().unwrap();
        let local = server.local_addr().unwrap();
        assert!(is_acknowledged(local, remote).unwrap());
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        assert!(server.read(&mut [0]).is_err(), "the client has reset the connection");
        assert!(is_acknowledged(local, remote).is_err());
        assert!(is_orphan(local, remote).is_err());
    }

    #[test]
    fn a_socket_that_does_not_exist_is_not_known_to_be_an_orphan() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(is_orphan(nowhere, nowhere).is_err());
    }
}
