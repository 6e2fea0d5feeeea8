//! HTTP downloads that discard the bytes: a pfs stream that is being written, and a file from
//! nginx.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::Context;
use pfs_measure::stamp::Chunk;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::{
    Address, Peer,
    connection::{connect, unexpected},
    pfs,
    server::{Server, Start, free_port},
};
use crate::job::{Job, WRITER, name};

/// Bytes to read at once.
const READ_SIZE: usize = 256 * 1024;

/// Starts nginx with the relevant part of Debian's configuration: workers for all processors,
/// sendfile.
pub fn nginx(start: &Start<'_>) -> anyhow::Result<Server> {
    let (root, port) = (start.dir.join("root"), free_port()?);
    std::fs::create_dir(&root)?;
    let file = BufWriter::with_capacity(READ_SIZE, File::create(root.join("file"))?);
    fill(start, file).context("cannot write what nginx is to serve")?;
    let config = start.dir.join("nginx.conf");
    let dir = start.dir.display();
    let text = format!(
        "daemon off; worker_processes auto; pid {dir}/nginx.pid; error_log /dev/null;\n\
         events {{ worker_connections 768; }}\n\
         http {{ sendfile on; tcp_nopush on; access_log off; client_body_temp_path {dir}/temporary;\n\
         server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
        root.display()
    );
    std::fs::write(&config, text)?;
    let mut command = start.command(start.tools.program(start.peer));
    command.arg("-e").arg("/dev/null").arg("-c").arg(&config);
    Ok(Server::new(start.spawn(&mut command)?, Address::Tcp(port)))
}

/// Writes the bytes that a writer of this load writes.
fn fill(start: &Start<'_>, mut file: impl Write) -> anyhow::Result<()> {
    let chunks = start.load.limit.context("a file has a size")?;
    let mut chunk = Chunk::new(WRITER, start.load.chunk);
    for counter in 0..chunks {
        file.write_all(chunk.stamped(counter, 0))?;
    }
    file.write_all(chunk.end(chunks))?;
    Ok(file.flush()?)
}

/// HTTP download.
pub struct Download {
    connection: BufReader<File>,
    /// Length of the body, if the response has one.
    length: Option<u64>,
}

impl Download {
    /// Connects and sends nothing.
    pub fn connect(job: &Job) -> io::Result<Self> {
        let connection = match &job.address {
            Address::Http { port, .. } => connect(&Address::Tcp(*port))?,
            address => connect(address)?,
        };
        Ok(Self { connection: BufReader::with_capacity(READ_SIZE, connection), length: None })
    }

    /// Sends the request and waits for the response head: from then on the reader of a stream is
    /// attached.
    pub fn ask(&mut self, job: &Job) -> io::Result<()> {
        let path = if job.peer == Peer::Nginx { "/file" } else { pfs::PATH };
        let host = Ipv4Addr::LOCALHOST;
        let request = format!("GET {path}{} HTTP/1.1\r\nHost: {host}\r\n\r\n", query(job.peer));
        self.connection.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(unexpected("200", line.as_bytes()));
        }
        while self.line(&mut line)? > 2 {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                self.length = value.trim().parse().ok();
            }
        }
        Ok(())
    }

    /// Reads the body to its proper end and returns its length.
    pub fn drain(&mut self) -> io::Result<u64> {
        if let Some(length) = self.length {
            self.skip(length)?;
            return Ok(length);
        }
        let (mut total, mut line) = (0, String::new());
        loop {
            self.line(&mut line)?;
            let Ok(piece) = u64::from_str_radix(line.trim_end(), 16) else {
                return Err(unexpected("the length of a piece", line.as_bytes()));
            };
            self.skip(piece + 2)?;
            if piece == 0 {
                return Ok(total);
            }
            total += piece;
        }
    }

    fn line(&mut self, line: &mut String) -> io::Result<usize> {
        line.clear();
        match self.connection.by_ref().take(8192).read_line(line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => Ok(len),
        }
    }

    fn skip(&mut self, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let there = self.connection.fill_buf()?.len();
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let skipped = there.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.connection.consume(skipped);
            left -= skipped as u64;
        }
        Ok(())
    }
}

/// Returns the bytes of all response bodies that pfsd has sent, according to its metrics.
pub fn sent_bytes(port: u16) -> io::Result<u64> {
    let mut connection = connect(&Address::Tcp(port))?;
    let host = Ipv4Addr::LOCALHOST;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    let lines = response.lines().filter(|line| line.starts_with("pfs_http_sent_bytes_total{"));
    let values = lines.map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()));
    let values: Option<Vec<u64>> = values.collect();
    match values {
        Some(values) if !values.is_empty() => Ok(values.iter().sum()),
        _ => Err(unexpected("the bytes that were sent", response.as_bytes())),
    }
}

/// Readers that connect from one loopback address: pfsd allows one address half of all connections.
const READERS_PER_ADDRESS: usize = 5000;

/// Requests all events of one of several streams. Does not read the response.
pub fn events(address: &Address, stream: usize) -> io::Result<File> {
    let Address::Http { port, .. } = address else {
        return Err(io::Error::other(format!("nobody serves HTTP at {address:?}")));
    };
    let host = Ipv4Addr::LOCALHOST;
    let client = Ipv4Addr::from_bits(host.to_bits() + (stream / READERS_PER_ADDRESS) as u32);
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(client, 0))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(host, *port))?;
    let mut connection = File::from(socket);
    let stream = name(stream);
    let request = format!(
        "GET /streamfs/{stream}?from=oldest HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
    );
    connection.write_all(request.as_bytes())?;
    Ok(connection)
}

/// Query that selects `block` readers, so that no byte is lost.
fn query(peer: Peer) -> &'static str {
    if peer == Peer::Nginx { "" } else { "?slow=block" }
}
