//! Idle readers: each is attached to its own stream, has read the chunk in the stream, and waits
//! for more. No reader has a thread, so that one process can be ten thousand readers.

use std::{
    fs::File,
    io::{self, Read, Write},
    time::Duration,
};

use super::{
    Address, Peer,
    connection::{connect, give_up_after},
    http, mqtt, nats, pfs, resp,
};
use crate::job::name;

/// Time limit for a chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Readers of the first streams, one each.
pub struct Readers {
    peer: Peer,
    address: Address,
    /// Client of the readers that use pfs's library.
    client: Option<pfs::Many>,
    library: Vec<pfs_client::Reader>,
    /// Connections of readers without a library.
    connections: Vec<File>,
}

impl Readers {
    /// Creates an empty set of readers.
    pub fn new(peer: Peer, address: &Address) -> io::Result<Self> {
        let client = match peer {
            Peer::PfsShm => Some(pfs::Many::connect(address)?),
            Peer::PfsUnix => Some(pfs::Many::connect(address)?.without_shm()),
            _ => None,
        };
        let (library, connections) = (Vec::new(), Vec::new());
        Ok(Self { peer, address: address.clone(), client, library, connections })
    }

    /// Attaches a reader to the next stream and reads the chunk in the stream.
    pub fn attach(&mut self, chunk: &[u8]) -> io::Result<()> {
        let stream = self.len();
        match &self.client {
            Some(client) => self.library.push(client.follow(stream, chunk)?),
            None => self.connections.push(follow(self.peer, &self.address, stream, chunk)?),
        }
        Ok(())
    }

    /// Number of attached readers.
    pub fn len(&self) -> usize {
        self.library.len() + self.connections.len()
    }

    /// Number of readers attached over shm.
    pub fn over_shm(&self) -> usize {
        self.library.iter().filter(|reader| reader.is_shm()).count()
    }
}

fn follow(peer: Peer, address: &Address, stream: usize, chunk: &[u8]) -> io::Result<File> {
    let stream_name = name(stream);
    let connection = match peer {
        Peer::PfsHttp => http::events(address, stream)?,
        Peer::RedisStreams => {
            let mut connection = connect(address)?;
            connection.write_all(&resp::xread(&stream_name, b"0-0"))?;
            connection
        }
        Peer::Mosquitto => mqtt::subscribe_to(address, &stream_name)?,
        Peer::JetStream => nats::consume(address, &stream_name)?,
        _ => return Err(io::Error::other("it has no idle readers")),
    };
    let mut connection = read_until(connection, chunk)?;
    if peer == Peer::RedisStreams {
        connection.write_all(&resp::xread(&stream_name, b"$"))?;
    }
    Ok(connection)
}

/// Reads until these bytes have arrived.
fn read_until(connection: File, bytes: &[u8]) -> io::Result<File> {
    let mut connection = give_up_after(connection, CHUNK_TIMEOUT)?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.windows(bytes.len()).any(|part| part == bytes) {
        match connection.read(&mut buffer) {
            Ok(read) if read > 0 => received.extend_from_slice(&buffer[..read]),
            ended => {
                let text = String::from_utf8_lossy(&received);
                return Err(io::Error::other(format!("no chunk, but {text:?} and then {ended:?}")));
            }
        }
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};

    use super::*;

    fn read_from(parts: &[&[u8]], chunk: &[u8]) -> io::Result<File> {
        let (mut server, reader) = UnixStream::pair()?;
        parts.iter().try_for_each(|part| server.write_all(part))?;
        drop(server);
        read_until(OwnedFd::from(reader).into(), chunk)
    }

    #[test]
    fn a_chunk_is_found_behind_a_header_and_across_two_reads() {
        let header = [b'h'; 4094];
        assert!(read_from(&[&header, b"chunk\n"], b"chunk").is_ok());
    }

    #[test]
    fn a_connection_that_ends_before_the_chunk_is_an_error_that_quotes_the_answer() {
        let error = read_from(&[b"403 chun"], b"chunk").expect_err("the chunk is not complete");
        assert!(error.to_string().contains("403 chun"), "{error}");
    }
}
