//! Peers that read from a pipe: stdintap and tee. Also the pipe ends of all pipelines, and plain
//! pipes and sockets without a server.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};

use super::{
    Address, Peer,
    connection::{Fixed, FramedReader, FramedWriter, Plain, connect, unexpected},
    server::{Server, Start},
};
use crate::job::Job;

/// Pipe size that an unprivileged user may set.
const LARGE_PIPE: usize = 1024 * 1024;

/// Pipe size that `pfs write` and `pfs cat` set.
const PFS_PIPE: usize = 256 * 1024;

/// Starts a stdintap that waits for its slowest reader, with a queue as large as the window of all
/// peers.
pub fn stdintap(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("stdintap.sock");
    let mut command = start.command(&start.tools.stdintap);
    command.arg(&socket).args(["--backpressure", "--hello-message", "--max-line-size", "1048576"]);
    command.args(["--qlen", &start.load.window_chunks().to_string()]).stdin(Stdio::piped());
    Server::fed(start.spawn(&mut command)?, Address::Unix(socket))
}

/// Starts `tee` with one FIFO for each reader.
pub fn tee(start: &Start<'_>) -> anyhow::Result<Server> {
    let fifos = start.dir.join("fifo");
    std::fs::create_dir(&fifos)?;
    let mut command = start.command("tee");
    for reader in 0..start.load.readers {
        let fifo = fifo(&fifos, reader);
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR)?;
        if reader + 1 < start.load.readers {
            command.arg(&fifo);
        } else {
            // Opened for reading too, because that does not wait for the reader.
            command.stdout(File::options().read(true).write(true).open(&fifo)?);
        }
    }
    let server = Server::fed(start.spawn(command.stdin(Stdio::piped()))?, Address::Fifos(fifos))?;
    if let (Peer::TeeLargePipes, Some(feed)) = (start.peer, server.feeds.first()) {
        fcntl_setpipe_size(feed, LARGE_PIPE)?;
    }
    Ok(server)
}

/// Creates a pipe or socket with its own writer for each reader: the ends of a fan-out, without the
/// fan-out.
pub fn alone(start: &Start<'_>) -> anyhow::Result<Server> {
    let mut server = Server::none(Address::Stdin);
    for _ in 0..start.load.readers {
        let (tap, feed) = if start.peer == Peer::SocketsAlone {
            let (tap, feed) = UnixStream::pair()?;
            (tap.into(), feed.into())
        } else {
            let (tap, feed) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setpipe_size(&feed, PFS_PIPE)?;
            (tap, feed)
        };
        server.taps.push(tap);
        server.feeds.push(feed);
    }
    Ok(server)
}

fn fifo(dir: &Path, reader: usize) -> std::path::PathBuf {
    dir.join(reader.to_string())
}

/// Writer of a peer that reads from a pipe: the pipe is the writer's standard input.
pub fn writer() -> io::Result<FramedWriter<Plain>> {
    Ok(FramedWriter::new(io::stdin().as_fd().try_clone_to_owned()?.into(), Plain))
}

/// Reader of a pipe, FIFO or file.
pub fn reader(job: &Job) -> io::Result<FramedReader<Fixed>> {
    let file: File = match &job.address {
        Address::Fifos(dir) => File::open(fifo(dir, job.reader))?,
        Address::File(path) => File::open(path)?,
        _ => io::stdin().as_fd().try_clone_to_owned()?.into(),
    };
    if job.peer == Peer::TeeLargePipes {
        fcntl_setpipe_size(&file, LARGE_PIPE)?;
    }
    Ok(FramedReader::new(file, job.load.chunk, Fixed(job.load.chunk)))
}

/// Reader of stdintap.
pub fn tap(job: &Job) -> io::Result<FramedReader<Fixed>> {
    let mut connection = connect(&job.address)?;
    let mut greeting = [0; 6];
    connection.read_exact(&mut greeting)?;
    if &greeting != b"HELLO\n" {
        return Err(unexpected("a greeting", &greeting));
    }
    Ok(FramedReader::new(connection, job.load.chunk, Fixed(job.load.chunk)))
}
