//! The ceiling: pfs's ring without any daemon. The writer's process makes the stream, and readers
//! map it. Nobody stands between them, so that no server can do better; but the stream ends with
//! its writer, and readers must know its process.
//!
//! In a folder are, for each reader, links to the writer's descriptors and the message with which a
//! daemon would hand them over; a FIFO, into which a reader writes a byte when it makes room that
//! the writer waits for; and a word by which readers say that they are going to sleep. A daemon
//! needs no such word: it appends what its writers have put there meanwhile, and wakes once for all
//! of it. Here it would be a system call for every chunk, and slower than the daemon.

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

/// How much is copied from the ring at once, about, and how often others are let run before a
/// reader sleeps: as in pfs's client.
const READ_SIZE: usize = 64 * 1024;
const YIELDS: u32 = 4;

/// How much is held back at most, to be appended at once.
const PUSH_SIZE: usize = 64 * 1024;

/// How long a reader may take to make room.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// What a folder has for a reader.
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

/// The writer, in whose memory the stream is.
pub struct Writer {
    writer: pfs_stream::Writer,
    /// Chunks that are held back, and their size.
    queue: Vec<u8>,
    chunk: usize,
    /// How much is held back at most: much less than the ring has room for.
    most: usize,
    room: Room,
    asleep: Asleep,
    /// Attached as long as these are there.
    _readers: Vec<Handout>,
}

impl Writer {
    /// Makes the stream, as large as pfsd's, and hands it out to all readers of this job.
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

/// Attaches a reader that gets everything, and puts what its process needs where that looks for it.
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

/// Whoever opens the link opens what this descriptor is of.
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
            // Those who sleep have been woken now, so that whoever can make room does.
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

/// Where readers say that they have made room.
struct Room(File);

impl Room {
    fn create(path: &Path) -> io::Result<Self> {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
        // For writing too, because that doesn't wait for a reader, nor ends with the last.
        Ok(Self(File::options().read(true).write(true).open(path)?))
    }

    /// Waits for something that comes when readers make room. It asks them to say so each time it
    /// is looked at.
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

/// Whether it has come.
fn look<T>(awaited: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    awaited.poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether readers sleep, or are about to. They say so, and then look once more; the writer looks
/// here when what it has appended can be seen.
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

    /// Whether somebody has said so since the last time that this was asked.
    fn anybody(&self) -> bool {
        fence(SeqCst);
        self.0.word(0).load(Relaxed) != 0 && self.0.word(0).swap(0, SeqCst) != 0
    }
}

/// A reader in a process of its own.
pub struct Reader {
    reader: ShmReader,
    notifier: Notifier,
    room: File,
    asleep: Asleep,
    chunks: Chunks,
}

impl Reader {
    /// Maps what the writer has handed out.
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

    /// Waits until something is there.
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
        // What is lost shows in the stamps.
        self.chunks.iter().for_each(take);
        Ok(!matches!(read, Read::End(_)))
    }
}
