//! Connections with framed chunks: large buffers, no allocation per chunk, and one system call for
//! as many bytes as are available, so that the client slows no peer down.

use std::{
    fs::File,
    io::{self, IoSlice, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use pfs_measure::clock;

use super::{Address, Receive, Transmit};

/// Minimum buffer of a [`Receive`] for one read, and maximum number of bytes that
/// [`Transmit::push`] holds back.
const READ_SIZE: usize = 256 * 1024;
const PUSH_SIZE: usize = 64 * 1024;

/// Alignment of the read buffer: a read into the empty buffer starts at the start of a page. Some
/// processors copy many times slower if the target is a few bytes further in its page than the
/// source is in its own. The kernel's buffers start at a page, and those of `malloc` 16 bytes
/// later.
const ALIGNMENT: usize = 4096;

/// Smaller chunks are copied next to their header; larger ones are sent without a copy.
const LARGE: usize = 8 * 1024;

/// Maximum size of a frame.
const LARGEST_FRAME: usize = 16 * 1024 * 1024;

/// Time limit for the start of a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects. Waits for a server that has just been started.
pub fn connect(address: &Address) -> io::Result<File> {
    let patience = clock::after(PATIENCE);
    loop {
        let connected = match address {
            Address::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
            Address::Tcp(port) => {
                TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).and_then(|stream| {
                    stream.set_nodelay(true)?;
                    Ok(stream.into())
                })
            }
            other => return Err(io::Error::other(format!("nobody listens at {other:?}"))),
        };
        match connected {
            Ok(connection) => return Ok(connection.into()),
            Err(error) if clock::now() > patience => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Sets a read timeout on a connection.
pub fn give_up_after(connection: File, patience: Duration) -> io::Result<File> {
    // `File` has no such method, and `UnixStream` sets the option on a socket of any kind.
    let socket = UnixStream::from(OwnedFd::from(connection));
    socket.set_read_timeout(Some(patience))?;
    Ok(OwnedFd::from(socket).into())
}

/// Builds the error for an unexpected answer.
pub fn unexpected(what: &str, bytes: &[u8]) -> io::Error {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {what}, got {start:?}"))
}

/// Reads exactly these bytes, or fails.
pub fn expect(connection: &mut File, answer: &[u8]) -> io::Result<()> {
    let mut bytes = vec![0; answer.len()];
    connection.read_exact(&mut bytes)?;
    if bytes == answer { Ok(()) } else { Err(unexpected(&String::from_utf8_lossy(answer), &bytes)) }
}

/// First item in received bytes.
pub enum Found {
    /// A chunk of `len` bytes at `at`; the following bytes start at `next`.
    Chunk { at: usize, len: usize, next: usize },
    /// Another item, which ends at this position.
    Other(usize),
    /// The item is incomplete.
    Partial,
}

/// Parser of a protocol's frames.
pub trait Parse {
    /// Parses the first item in `data`. Bytes that are put into `answer` are sent at once.
    fn parse(&mut self, data: &[u8], answer: &mut Vec<u8>) -> io::Result<Found>;
}

/// Chunks of a fixed size, without frames.
pub struct Fixed(pub usize);

impl Parse for Fixed {
    #[inline]
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let len = self.0;
        Ok(if data.len() < len { Found::Partial } else { Found::Chunk { at: 0, len, next: len } })
    }
}

/// Reading end of a framed connection.
pub struct FramedReader<P> {
    connection: File,
    parse: P,
    answer: Vec<u8>,
    buffer: Vec<u8>,
    /// Start of the used part of the buffer.
    base: usize,
    start: usize,
    end: usize,
}

impl<P: Parse> FramedReader<P> {
    /// Creates a reader for chunks of about this size.
    pub fn new(connection: File, chunk: usize, parse: P) -> Self {
        let buffer = vec![0; READ_SIZE.max(4 * chunk) + ALIGNMENT];
        let base = buffer.as_ptr().align_offset(ALIGNMENT);
        Self { connection, parse, answer: Vec::new(), buffer, base, start: base, end: base }
    }

    /// Passes all complete chunks in the buffer to `take`. Returns true if there were any.
    fn drain(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut any = false;
        loop {
            let data = &self.buffer[self.start..self.end];
            let found = self.parse.parse(data, &mut self.answer)?;
            if !self.answer.is_empty() {
                self.connection.write_all(&self.answer)?;
                self.answer.clear();
            }
            match found {
                Found::Chunk { at, len, next } => {
                    take(&data[at..at + len]);
                    any = true;
                    self.start += next;
                }
                Found::Other(next) => self.start += next,
                Found::Partial => return Ok(any),
            }
        }
    }

    /// Reads once.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (self.base, self.base);
        } else if self.buffer.len() - self.end < self.buffer.len() / 2 {
            self.buffer.copy_within(self.start..self.end, self.base);
            (self.start, self.end) = (self.base, self.base + self.end - self.start);
            if self.end == self.buffer.len() {
                if self.end >= LARGEST_FRAME {
                    return Err(unexpected("a smaller frame", &self.buffer));
                }
                self.buffer.resize(self.end * 2, 0);
            }
        }
        loop {
            match self.connection.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                read => {
                    let read = read?;
                    self.end += read;
                    return Ok(read);
                }
            }
        }
    }
}

impl<P: Parse> Receive for FramedReader<P> {
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        while !self.drain(take)? {
            if self.fill()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Framing of a chunk for sending.
pub trait Frame {
    /// Bytes after each chunk.
    const TAIL: &'static [u8] = b"";

    /// Appends the bytes before a chunk of `len` bytes.
    fn head(&self, len: usize, out: &mut Vec<u8>);
}

/// No frame.
pub struct Plain;

impl Frame for Plain {
    fn head(&self, _: usize, _: &mut Vec<u8>) {}
}

/// Writing end of a framed connection.
pub struct FramedWriter<F> {
    connection: File,
    frame: F,
    queue: Vec<u8>,
}

impl<F: Frame> FramedWriter<F> {
    /// Creates a writer with an empty queue.
    pub fn new(connection: File, frame: F) -> Self {
        Self { connection, frame, queue: Vec::with_capacity(2 * PUSH_SIZE) }
    }

    fn put(&mut self, chunk: &[u8]) {
        self.frame.head(chunk.len(), &mut self.queue);
        self.queue.extend_from_slice(chunk);
        self.queue.extend_from_slice(F::TAIL);
    }
}

impl<F: Frame> Transmit for FramedWriter<F> {
    fn send(&mut self, chunk: &[u8]) -> io::Result<()> {
        if chunk.len() < LARGE {
            self.put(chunk);
        } else {
            self.frame.head(chunk.len(), &mut self.queue);
            let slices = [IoSlice::new(&self.queue), IoSlice::new(chunk), IoSlice::new(F::TAIL)];
            write_all_vectored(&mut self.connection, slices)?;
            self.queue.clear();
        }
        self.flush()
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        if chunk.len() >= LARGE {
            return self.send(chunk);
        }
        self.put(chunk);
        if self.queue.len() < PUSH_SIZE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.queue.is_empty() {
            self.connection.write_all(&self.queue)?;
            self.queue.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

fn write_all_vectored<const N: usize>(
    file: &mut File,
    mut slices: [IoSlice<'_>; N],
) -> io::Result<()> {
    let mut slices = &mut slices[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
