//! What a server costs at least: two wake-ups. One thread reads from the writer's socket, writes to
//! every reader's, and does nothing else. No queues: whoever is slow holds up all, and whoever goes
//! ends it. It speaks as the baseline does.

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

/// Serves a writer, and the readers that came before it.
pub fn relay(socket: &Path) -> std::io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let mut readers = Vec::new();
    loop {
        let (mut connection, _) = listener.accept()?;
        let mut role = [0];
        // Somebody looked whether it listens, if nothing comes.
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

/// Starts it as a process.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("relay.sock");
    let mut command = start.command(std::env::current_exe()?);
    command.arg("relay").arg(&socket);
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}
