//! Relay: the minimum cost of a server, two wake-ups. One thread reads from the writer's socket,
//! writes to the socket of each reader, and does nothing else. Without queues, a slow reader holds
//! up all others, and a reader that leaves ends the relay. The protocol is that of the baseline.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use super::{
    Address,
    server::{Server, Start},
};

const READ_SIZE: usize = 256 * 1024;

/// Serves one writer, and the readers that connected before it.
pub fn relay(socket: &Path) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let mut readers = Vec::new();
    loop {
        let (mut connection, _) = listener.accept()?;
        let mut role = [0];
        // A connection without any byte only checked that the relay listens.
        match connection.read(&mut role)? {
            0 => {}
            _ if role == *b"w" => return fan_out(connection, &mut readers),
            _ => {
                connection.write_all(b"a")?;
                readers.push(connection);
            }
        }
    }
}

fn fan_out(mut writer: UnixStream, readers: &mut [UnixStream]) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let bytes = match writer.read(&mut buffer)? {
            0 => return Ok(()),
            len => &buffer[..len],
        };
        readers.iter_mut().try_for_each(|reader| reader.write_all(bytes))?;
    }
}

/// Starts the relay as a process.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("relay.sock");
    let mut command = start.command(std::env::current_exe()?);
    command.arg("relay").arg(&socket);
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}
