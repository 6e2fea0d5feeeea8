//! Ceiling: pfs's ring buffer without a daemon. The writer's process creates the stream, and
//! readers map it. Nothing is between them, so no server can be faster. However, the stream ends
//! with its writer, and readers must know the writer's process.
//!
//! A folder contains, for each reader, links to the writer's descriptors and the message with which
//! a daemon would pass them. It also contains a FIFO, into which a reader writes a byte when it
//! makes room that the writer waits for, and a word in which readers announce that they are going
//! to sleep.
//!
//! A daemon needs no such word: it appends everything its writers have put there meanwhile and
//! wakes the readers once for all of it. Without the word, the writer here would make a system call
//! for every chunk, and would be slower than the daemon.

use std::{
    fs::File,
    future::Future,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::atomic::{
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use pfs_client::Chunks;
use pfs_proto::{Decoder, Reply};
use pfs_stream::{
    Finish, Read, ReadOptions, Sink, SlowPolicy, Start, Stream, StreamConfig,
    shm::{Handout, Notifier, ShmReader},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, mkfifoat},
};

use super::{Address, Receive, Transmit};
use crate::{job::Job, sys::Words};

/// Approximate number of bytes copied from the ring buffer at once, and how often a reader yields
/// before it sleeps. Both are as in pfs's client.
const READ_SIZE: usize = 64 * 1024;
const YIELDS: u32 = 4;

/// Maximum number of bytes that are held back and appended at once.
const PUSH_SIZE: usize = 64 * 1024;

/// Time limit for a reader to make room.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Files for a reader in the folder.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn new(job: &Job) -> io::Result<Files<'_>> {
        match &job.address {
            Address::Writer(dir) => Ok(Files(dir)),
            address => {
                Err(io::Error::other(format!("no writer hands anything out at {address:?}")))
            }
        }
    }

    fn ring(&self, reader: usize) -> PathBuf {
        self.0.join(format!("ring-{reader}"))
    }

    fn page(&self, reader: usize) -> PathBuf {
        self.0.join(format!("page-{reader}"))
    }

    fn start(&self, reader: usize) -> PathBuf {
        self.0.join(format!("start-{reader}"))
    }

    fn room(&self) -> PathBuf {
        self.0.join("room")
    }

    fn asleep(&self) -> PathBuf {
        self.0.join("asleep")
    }
}

/// Writer whose memory holds the stream.
pub struct Writer {
    writer: pfs_stream::Writer,
    /// Chunks that are held back, and their size.
    queue: Vec<u8>,
    chunk: usize,
    /// Maximum number of bytes held back: much less than the ring buffer holds.
    most: usize,
    room: Room,
    asleep: Asleep,
    /// Readers are attached as long as these exist.
    _readers: Vec<Handout>,
}

impl Writer {
    /// Creates a stream as large as pfsd's, and passes it to all readers of this job.
    pub fn create(job: &Job) -> io::Result<Self> {
        let (files, size) = (Files::new(job)?, job.load.window);
        let room = Room::create(&files.room())?;
        File::create(files.asleep())?.set_len(size_of::<u64>() as u64)?;
        let asleep = Asleep::open(&files.asleep())?;
        let config = StreamConfig {
            ring_buffer_size: size,
            channel_buffer_size: size,
            ..Default::default()
        };
        let stream = Stream::new("ring", config).map_err(other)?;
        let hand_out = |reader| hand_out(&stream, &files, reader);
        let readers = (0..job.load.readers).map(hand_out).collect::<io::Result<_>>()?;
        let writer = stream.writer().map_err(other)?;
        let most = PUSH_SIZE.min(usize::try_from(size / 8).unwrap_or(PUSH_SIZE));
        let (queue, chunk) = (Vec::with_capacity(2 * most), job.load.chunk);
        Ok(Self { writer, queue, chunk, most, room, asleep, _readers: readers })
    }
}

/// Attaches a `block` reader and puts the files for its process into the folder.
fn hand_out(stream: &Stream, files: &Files<'_>, reader: usize) -> io::Result<Handout> {
    let options =
        ReadOptions { start: Start::New, policy: SlowPolicy::Block, ..ReadOptions::default() };
    let attached = stream.reader(options).map_err(other)?;
    let handout = attached.hand_out(false).map_err(|(_, error)| error)?;
    let page = handout.page().ok_or(io::ErrorKind::Unsupported)?;
    let ring = handout.ring().ok_or(io::ErrorKind::Unsupported)?;
    link(ring, &files.ring(reader))?;
    link(page, &files.page(reader))?;
    let mut start = BytesMut::new();
    Reply::Shm(handout.start()).encode(&mut start);
    std::fs::write(files.start(reader), start)?;
    Ok(handout)
}

/// Creates a link that opens the file of this descriptor.
fn link(descriptor: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    symlink(format!("/proc/{}/fd/{}", std::process::id(), descriptor.as_raw_fd()), path)
}

impl Transmit for Writer {
    fn send(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.flush()?;
        loop {
            let pushed = look(pin!(self.writer.push(chunk)));
            if let Poll::Ready(pushed) = pushed {
                pushed.map_err(other)?;
                break;
            }
            // Sleeping readers have been woken now, so they can make room.
            self.room.wait_for(self.writer.much_room())?;
        }
        if self.asleep.anybody() {
            self.writer.wake();
        }
        Ok(())
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.queue.extend_from_slice(chunk);
        if self.queue.len() < self.most { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let chunks: Vec<_> = self.queue.as_slice().chunks(self.chunk).collect();
        while self.writer.try_append_all(&chunks).map_err(other)?.is_none() {
            self.room.wait_for(self.writer.much_room())?;
        }
        self.queue.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.writer.finish(Finish::Close);
        Ok(())
    }
}

/// FIFO through which readers report that they have made room.
struct Room(File);

impl Room {
    fn create(path: &Path) -> io::Result<Self> {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
        // Opened for writing too: opening then does not wait for a reader, and the FIFO does not
        // end with the last one.
        Ok(Self(File::options().read(true).write(true).open(path)?))
    }

    /// Waits for a future that becomes ready when readers make room. Each poll asks the readers to
    /// report that.
    fn wait_for<T>(&mut self, awaited: impl Future<Output = T>) -> io::Result<T> {
        let mut awaited = pin!(awaited);
        let mut said = [0; 64];
        loop {
            if let Poll::Ready(done) = look(awaited.as_mut()) {
                return Ok(done);
            }
            if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&PATIENCE))? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no reader makes room any more",
                ));
            }
            _ = self.0.read(&mut said)?;
        }
    }
}

/// Polls the future once.
fn look<T>(awaited: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    awaited.poll(&mut Context::from_waker(Waker::noop()))
}

/// Word in which readers announce that they sleep or are about to. A reader sets the word and then
/// checks the ring buffer once more; the writer checks the word once its chunk is visible.
struct Asleep(Words);

impl Asleep {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self(Words::map(&file, 1)?))
    }

    fn say(&self) {
        self.0.word(0).store(1, SeqCst);
        fence(SeqCst);
    }

    /// Returns true if a reader has announced sleep since the last call.
    fn anybody(&self) -> bool {
        fence(SeqCst);
        self.0.word(0).load(Relaxed) != 0 && self.0.word(0).swap(0, SeqCst) != 0
    }
}

/// Reader in a separate process.
pub struct Reader {
    reader: ShmReader,
    notifier: Notifier,
    room: File,
    asleep: Asleep,
    chunks: Chunks,
}

impl Reader {
    /// Maps the memory that the writer has passed.
    pub fn open(job: &Job) -> io::Result<Self> {
        let files = Files::new(job)?;
        let mut start = Decoder::new();
        start.buffer().extend_from_slice(&std::fs::read(files.start(job.reader))?);
        let frame = start.next_frame().map_err(other)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Reply::Shm(start) = Reply::decode(frame).map_err(other)? else {
            return Err(io::Error::other("the writer has handed out something else"));
        };
        let ring = File::open(files.ring(job.reader))?;
        let page = File::options().read(true).write(true).open(files.page(job.reader))?;
        let reader = ShmReader::open(ring.into(), page.into(), &start)?;
        let room = File::options().write(true).open(files.room())?;
        let asleep = Asleep::open(&files.asleep())?;
        Ok(Self { notifier: reader.notifier(), reader, room, asleep, chunks: Chunks::new() })
    }

    /// Waits until there are chunks.
    fn read(&mut self) -> io::Result<Read> {
        let mut yields = 0;
        loop {
            let count = self.notifier.count();
            if yields == YIELDS {
                self.asleep.say();
            }
            if let Some(read) = self.reader.try_read(&mut self.chunks, READ_SIZE).map_err(other)? {
                return Ok(read);
            }
            if yields < YIELDS {
                yields += 1;
                std::thread::yield_now();
            } else {
                self.notifier.sleep(count, None);
            }
        }
    }
}

impl Receive for Reader {
    fn receive(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        self.chunks.undo_to(0);
        let read = self.read()?;
        if self.reader.room_is_wanted() {
            self.room.write_all(b"!")?;
        }
        // Losses show in the stamps.
        self.chunks.iter().for_each(take);
        Ok(!matches!(read, Read::End(_)))
    }
}
