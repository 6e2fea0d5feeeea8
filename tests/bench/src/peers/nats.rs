//! nats-server over loopback TCP (it has no Unix socket), with its text protocol.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use super::{
    Address, Peer,
    connection::{Found, Frame, FramedReader, FramedWriter, Parse, connect, expect, unexpected},
    resp::Digits,
    server::{Server, Start, free_port},
};
use crate::job::Job;

/// Starts the server with its defaults, and with JetStream if the peer needs that.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let port = free_port()?;
    let mut command = start.command("nats-server");
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
    if start.peer == Peer::JetStream {
        command.arg("--jetstream").arg("--store_dir").arg(start.dir);
    }
    Ok(Server::new(start.spawn(&mut command)?, Address::Tcp(port)))
}

/// `PUB` before a chunk.
pub struct Publish;

impl Frame for Publish {
    const TAIL: &'static [u8] = b"\r\n";

    fn head(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB s ");
        out.extend_from_slice(Digits::new(len as u64).bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn open(address: &Address) -> io::Result<File> {
    let mut connection = connect(address)?;
    // INFO is one line of a few hundred bytes, and the server sends nothing else before CONNECT.
    let mut byte = [0];
    while byte != [b'\n'] {
        connection.read_exact(&mut byte)?;
    }
    connection.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n")?;
    Ok(connection)
}

fn settle(connection: &mut File) -> io::Result<()> {
    connection.write_all(b"PING\r\n")?;
    expect(connection, b"PONG\r\n")
}

/// Connects a publisher.
pub fn writer(job: &Job) -> io::Result<FramedWriter<Publish>> {
    let mut connection = open(&job.address)?;
    settle(&mut connection)?;
    Ok(FramedWriter::new(connection, Publish))
}

/// Connects a subscriber.
pub fn subscribe(job: &Job) -> io::Result<FramedReader<Messages>> {
    Ok(FramedReader::new(subscribed(&job.address)?, job.load.chunk, Messages))
}

/// Opens a connection that gets messages and answers to the subject "s".
pub fn subscribed(address: &Address) -> io::Result<File> {
    let mut connection = open(address)?;
    connection.write_all(b"SUB s 1\r\n")?;
    settle(&mut connection)?;
    Ok(connection)
}

/// Publishes a request whose answer goes to the subject "s".
pub fn ask(subject: &str, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject.as_bytes());
    out.extend_from_slice(b" s ");
    out.extend_from_slice(Digits::new(content.len() as u64).bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

/// Opens a connection to which JetStream pushes the contents of a stream, and everything that comes
/// later.
pub fn consume(address: &Address, stream: &str) -> io::Result<File> {
    let mut connection = open(address)?;
    let mut request = format!("SUB push.{stream} 1\r\n").into_bytes();
    let config = format!(
        r#"{{"stream_name":"{stream}","config":{{"deliver_subject":"push.{stream}","ack_policy":"none"}}}}"#
    );
    // Nobody reads the answer: if the consumer cannot be created, nothing is pushed.
    ask(&format!("$JS.API.CONSUMER.CREATE.{stream}"), config.as_bytes(), &mut request);
    connection.write_all(&request)?;
    Ok(connection)
}

/// Parser of JetStream's answers, which are JSON.
pub struct Answers;

impl Parse for Answers {
    fn parse(&mut self, data: &[u8], answer: &mut Vec<u8>) -> io::Result<Found> {
        let found = Messages.parse(data, answer)?;
        if let Found::Chunk { at, len, .. } = found {
            let json = &data[at..at + len];
            if json.windows(8).any(|word| word == b"\"error\":") {
                return Err(unexpected("an answer without an error", json));
            }
        }
        Ok(found)
    }
}

/// Parser of messages for a subscriber.
pub struct Messages;

impl Parse for Messages {
    #[inline]
    fn parse(&mut self, data: &[u8], answer: &mut Vec<u8>) -> io::Result<Found> {
        // "MSG s 1 65536", and a PING from the server now and then.
        const HEAD: &[u8] = b"MSG s 1 ";
        if let Some(rest) = data.strip_prefix(HEAD) {
            let mut len = 0usize;
            for (index, byte) in rest.iter().enumerate() {
                match byte {
                    // JetStream puts two spaces before a length.
                    b' ' if index == 0 => (),
                    b'0'..=b'9' if index < 10 => len = len * 10 + usize::from(byte - b'0'),
                    b'\r' => {
                        let at = HEAD.len() + index + 2;
                        let next = at + len + 2;
                        return Ok(if data.len() < next {
                            Found::Partial
                        } else {
                            Found::Chunk { at, len, next }
                        });
                    }
                    _ => return Err(unexpected("a length", data)),
                }
            }
            return Ok(Found::Partial);
        }
        let Some(end) = data.iter().take(4096).position(|byte| *byte == b'\n') else {
            return Ok(Found::Partial);
        };
        match &data[..4] {
            b"PING" => answer.extend_from_slice(b"PONG\r\n"),
            b"INFO" | b"PONG" | b"+OK\r" => (),
            _ => return Err(unexpected("a message", data)),
        }
        Ok(Found::Other(end + 1))
    }
}
