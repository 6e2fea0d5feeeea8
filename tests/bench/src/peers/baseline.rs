//! Baseline: a daemon that can be written in an afternoon. It uses tokio, with a bounded queue for
//! each reader that makes the writer wait when it is full. Protocol on the socket: 'w' or 'r', then
//! frames of a u32 length and a chunk.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::Path,
    sync::Arc,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc},
};

use super::{
    Address,
    connection::{Found, Frame, FramedReader, FramedWriter, Parse, connect, expect},
    server::{Server, Start},
};
use crate::job::Job;

type Readers = Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>;

const READ_SIZE: usize = 256 * 1024;

/// Runs the daemon until it is killed.
pub fn daemon(socket: &Path, queue: usize) -> io::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_io().build()?.block_on(async {
        let (listener, readers) = (UnixListener::bind(socket)?, Readers::default());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_connection(stream, readers.clone(), queue));
        }
    })
}

async fn serve_connection(
    mut stream: UnixStream,
    readers: Readers,
    queue: usize,
) -> io::Result<()> {
    if stream.read_u8().await? == b'w' {
        return fan_out(stream, readers).await;
    }
    let (sender, receiver) = mpsc::channel(queue);
    readers.lock().await.push(sender);
    stream.write_u8(b'a').await?;
    deliver(stream, receiver).await
}

/// Sends everything from a writer to every reader, in runs of complete frames.
async fn fan_out(mut stream: UnixStream, readers: Readers) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    while stream.read_buf(&mut buffer).await? > 0 {
        let whole = whole_frames(&buffer);
        if whole > 0 {
            let frames = buffer.split_to(whole).freeze();
            // Held while sending, so that all readers see the same order.
            let mut readers = readers.lock().await;
            let mut index = 0;
            while let Some(reader) = readers.get(index) {
                match reader.send(frames.clone()).await {
                    Ok(()) => index += 1,
                    Err(_gone) => _ = readers.swap_remove(index),
                }
            }
        }
        buffer.reserve(READ_SIZE);
    }
    Ok(())
}

async fn deliver(mut stream: UnixStream, mut receiver: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, 64).await > 0 {
        let mut first = 0;
        while first < batch.len() {
            let slices: Vec<IoSlice<'_>> =
                batch[first..].iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut written = stream.write_vectored(&slices).await?;
            while let Some(bytes) = batch.get_mut(first).filter(|bytes| written >= bytes.len()) {
                written -= bytes.len();
                first += 1;
            }
            if let Some(bytes) = batch.get_mut(first) {
                bytes.advance(written);
            }
        }
        batch.clear();
    }
    Ok(())
}

/// Returns the length of the complete frames at the start of these bytes.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(&[a, b, c, d]) = bytes.get(end..end + 4) {
        let next = end + 4 + u32::from_le_bytes([a, b, c, d]) as usize;
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    end
}

/// Starts the daemon as a process.
pub fn serve(start: &Start<'_>) -> anyhow::Result<Server> {
    let socket = start.dir.join("baseline.sock");
    let mut command = start.command(std::env::current_exe()?);
    command.arg("daemon").arg(&socket).arg("96");
    Ok(Server::new(start.spawn(&mut command)?, Address::Unix(socket)))
}

/// Frame with a length before the chunk.
pub struct Length;

impl Frame for Length {
    fn head(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(len as u32).to_le_bytes());
    }
}

/// Connects a writer.
pub fn writer(job: &Job) -> io::Result<FramedWriter<Length>> {
    let mut connection = connect(&job.address)?;
    connection.write_all(b"w")?;
    Ok(FramedWriter::new(connection, Length))
}

/// Connects a reader.
pub fn reader(job: &Job) -> io::Result<FramedReader<Frames>> {
    let mut connection: File = connect(&job.address)?;
    connection.write_all(b"r")?;
    expect(&mut connection, b"a")?;
    Ok(FramedReader::new(connection, job.load.chunk, Frames))
}

/// Parser of frames for a reader.
pub struct Frames;

impl Parse for Frames {
    #[inline]
    fn parse(&mut self, data: &[u8], _: &mut Vec<u8>) -> io::Result<Found> {
        let Some(length) = data.first_chunk::<4>() else { return Ok(Found::Partial) };
        let len = u32::from_le_bytes(*length) as usize;
        let next = 4 + len;
        Ok(if data.len() < next { Found::Partial } else { Found::Chunk { at: 4, len, next } })
    }
}
