//! Redis over its Unix socket (RESP): pub/sub and streams.

use std::{
    fs::File,
    io::{self, Write},
};

use super::{
    Address,
    connection::{Found, Frame, FramedReader, FramedWriter, Parse, connect, expect, unexpected},
    server::{Server, Start},
};
use crate::job::Job;

/// Name of the channel, and of the only stream.
const NAME: &str = "s";

/// Approximate number of bytes that a reader of a stream requests at once.
const BATCH: usize = 1024 * 1024;

/// Starts Redis without persistence and without the limit on a subscriber's buffer: the writer
/// keeps to a window.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("redis.sock");
    let mut command = start.command("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
    command.args(["--client-output-buffer-limit", "pubsub 0 0 0", "--maxclients", "12000"]);
    command.arg("--unixsocket").arg(&socket).arg("--dir").arg(start.dir);
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}

/// Command before a chunk.
pub enum Command {
    /// `PUBLISH`.
    Publish,
    /// `XADD` to this stream, trimmed to about this many chunks.
    Xadd(String, u64),
}

impl Frame for Command {
    const TAIL: &'static [u8] = b"\r\n";

    fn head(&self, len: usize, out: &mut Vec<u8>) {
        match self {
            Self::Publish => out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\ns\r\n"),
            Self::Xadd(key, keep) => {
                out.extend_from_slice(b"*8\r\n$4\r\nXADD\r\n");
                bulk(key.as_bytes(), out);
                out.extend_from_slice(b"$6\r\nMAXLEN\r\n$1\r\n~\r\n");
                let keep = Digits::new(*keep);
                bulk(keep.bytes(), out);
                out.extend_from_slice(b"$1\r\n*\r\n$1\r\nd\r\n");
            }
        }
        length(len, out);
    }
}

/// Connects a writer that disables replies.
pub fn writer(job: &Job) -> io::Result<FramedWriter<Command>> {
    let mut connection = connect(&job.address)?;
    connection.write_all(b"CLIENT REPLY OFF\r\n")?;
    let command = match job.peer {
        super::Peer::RedisStreams => Command::Xadd(job.stream(NAME), 2 * job.load.window_chunks()),
        _ => Command::Publish,
    };
    Ok(FramedWriter::new(connection, command))
}

/// Connects a subscriber.
pub fn subscribe(job: &Job) -> io::Result<FramedReader<Messages>> {
    let mut connection = connect(&job.address)?;
    write!(connection, "SUBSCRIBE {NAME}\r\n")?;
    expect(&mut connection, b"*3\r\n$9\r\nsubscribe\r\n$1\r\ns\r\n:1\r\n")?;
    Ok(FramedReader::new(connection, job.load.chunk, Messages))
}

/// Parser of pub/sub messages.
pub struct Messages;

impl Parse for Messages {
    #[inline]
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        const HEAD: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\ns\r\n";
        if data.len() < HEAD.len() {
            return Ok(Found::Partial);
        }
        if !data.starts_with(HEAD) {
            return Err(unexpected("a message", data));
        }
        let Some((len, at)) = number(data, HEAD.len(), b'$')? else { return Ok(Found::Partial) };
        let next = at + len + 2;
        Ok(if data.len() < next { Found::Partial } else { Found::Chunk { at, len, next } })
    }
}

/// Connects a reader of a stream, from its start.
pub fn follow(job: &Job) -> io::Result<FramedReader<Entries>> {
    let mut connection: File = connect(&job.address)?;
    let entries = Entries::asking_for(&job.stream(NAME), (BATCH / job.load.chunk).clamp(1, 4096));
    let mut command = Vec::new();
    entries.ask(b"0-0", &mut command);
    connection.write_all(&command)?;
    Ok(FramedReader::new(connection, job.load.chunk, entries))
}

/// Parser of replies to XREAD, which sends the next request after each reply.
pub struct Entries {
    /// Remaining entries in the current reply.
    left: usize,
    /// Number of entries to request.
    count: usize,
    /// Name of the stream, as in requests.
    key: Vec<u8>,
    /// First bytes of a reply.
    head: Vec<u8>,
}

impl Entries {
    /// Requests `count` entries of this stream at once.
    pub fn asking_for(stream: &str, count: usize) -> Self {
        let mut key = Vec::new();
        bulk(stream.as_bytes(), &mut key);
        let head = [b"*1\r\n*2\r\n", &key[..]].concat();
        Self { left: 0, count, key, head }
    }

    fn ask(&self, after: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n");
        bulk(Digits::new(self.count as u64).bytes(), out);
        out.extend_from_slice(b"$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n");
        out.extend_from_slice(&self.key);
        bulk(after, out);
    }
}

impl Parse for Entries {
    #[inline]
    fn parse(&mut self, data: &[u8], answer: &mut Vec<u8>) -> io::Result<Found> {
        if self.left == 0 {
            if data.len() < self.head.len() {
                return Ok(Found::Partial);
            }
            if !data.starts_with(&self.head) {
                return Err(unexpected("entries", data));
            }
            let Some((left, next)) = number(data, self.head.len(), b'*')? else {
                return Ok(Found::Partial);
            };
            self.left = left;
            return Ok(Found::Other(next));
        }
        let Some(at) = pair(data, 0)? else { return Ok(Found::Partial) };
        let Some((id_len, id)) = number(data, at, b'$')? else { return Ok(Found::Partial) };
        let Some(at) = pair(data, id + id_len + 2)? else { return Ok(Found::Partial) };
        let Some((field_len, field)) = number(data, at, b'$')? else { return Ok(Found::Partial) };
        let Some((len, at)) = number(data, field + field_len + 2, b'$')? else {
            return Ok(Found::Partial);
        };
        let next = at + len + 2;
        if data.len() < next {
            return Ok(Found::Partial);
        }
        self.left -= 1;
        if self.left == 0 {
            self.ask(&data[id..id + id_len], answer);
        }
        Ok(Found::Chunk { at, len, next })
    }
}

/// Builds the request that waits for the next entry of a stream after this one.
pub fn xread(stream: &str, after: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    Entries::asking_for(stream, 1).ask(after, &mut request);
    request
}

/// Appends a chunk to a stream.
pub fn add(stream: &str, chunk: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"*5\r\n$4\r\nXADD\r\n");
    bulk(stream.as_bytes(), out);
    out.extend_from_slice(b"$1\r\n*\r\n$1\r\nd\r\n");
    bulk(chunk, out);
}

/// Parser of answers to [`add`].
pub struct Added;

impl Parse for Added {
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        string(data)
    }
}

/// Builds the request for the names of all streams.
pub fn scan() -> Vec<u8> {
    let mut request = Vec::new();
    Names::default().ask(b"0", &mut request);
    request
}

/// Parser of replies to SCAN, which sends the next request after each reply. The last reply is
/// followed by an empty chunk.
#[derive(Default)]
pub struct Names {
    /// Cursor of the current reply, once it is known.
    cursor: Option<Vec<u8>>,
    /// Remaining names in the current reply.
    left: usize,
}

impl Names {
    /// Number of names to request at once.
    const COUNT: u64 = 1000;

    fn ask(&self, cursor: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"*4\r\n$4\r\nSCAN\r\n");
        bulk(cursor, out);
        out.extend_from_slice(b"$5\r\nCOUNT\r\n");
        bulk(Digits::new(Self::COUNT).bytes(), out);
    }
}

impl Parse for Names {
    fn parse(&mut self, data: &[u8], answer: &mut Vec<u8>) -> io::Result<Found> {
        let Some(cursor) = &self.cursor else {
            let Some(at) = pair(data, 0)? else { return Ok(Found::Partial) };
            let Some((len, at)) = number(data, at, b'$')? else { return Ok(Found::Partial) };
            let Some((left, next)) = number(data, at + len + 2, b'*')? else {
                return Ok(Found::Partial);
            };
            (self.cursor, self.left) = (Some(data[at..at + len].to_vec()), left);
            return Ok(Found::Other(next));
        };
        if self.left > 0 {
            let found = string(data)?;
            if !matches!(found, Found::Partial) {
                self.left -= 1;
            }
            return Ok(found);
        }
        if cursor == b"0" {
            self.cursor = None;
            return Ok(Found::Chunk { at: 0, len: 0, next: 0 });
        }
        self.ask(cursor, answer);
        self.cursor = None;
        Ok(Found::Other(0))
    }
}

/// Parses a string.
fn string(data: &[u8]) -> io::Result<Found> {
    let Some((len, at)) = number(data, 0, b'$')? else { return Ok(Found::Partial) };
    let next = at + len + 2;
    Ok(if data.len() < next { Found::Partial } else { Found::Chunk { at, len, next } })
}

/// Returns the position of the first element in an array of two.
#[inline]
fn pair(data: &[u8], at: usize) -> io::Result<Option<usize>> {
    match number(data, at, b'*')? {
        Some((2, next)) => Ok(Some(next)),
        None => Ok(None),
        Some(_) => Err(unexpected("two elements", &data[at..])),
    }
}

/// Returns the number in the line at `at`, after its type byte, and the start of the next line.
#[inline]
fn number(data: &[u8], at: usize, kind: u8) -> io::Result<Option<(usize, usize)>> {
    let Some(line) = data.get(at..) else { return Ok(None) };
    match line.first() {
        None => return Ok(None),
        Some(first) if *first != kind => return Err(unexpected("another kind of reply", line)),
        Some(_) => (),
    }
    let mut number = 0usize;
    for (index, byte) in line.iter().enumerate().skip(1) {
        match byte {
            b'0'..=b'9' if index < 10 => number = number * 10 + usize::from(byte - b'0'),
            b'\r' => return Ok((line.len() > index + 1).then_some((number, at + index + 2))),
            _ => return Err(unexpected("a number", line)),
        }
    }
    Ok(None)
}

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn length(len: usize, out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(Digits::new(len as u64).bytes());
    out.extend_from_slice(b"\r\n");
}

/// Decimal digits of a number, without allocation.
pub struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    /// Formats a number.
    pub fn new(mut number: u64) -> Self {
        let mut digits = Self { bytes: [b'0'; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    /// Returns the digits, most significant first.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
