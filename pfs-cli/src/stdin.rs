//! Input of `pfs write`. A separate thread reads it, so that a slow producer never delays
//! anything else.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeReader, Read, Write},
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    descriptors,
    output::{OutputError, Stdout},
    readable::is_readable,
};

/// Maximum number of blocks that wait to be sent, within [`MAX_WAITING_BYTES`] in total.
const MAX_WAITING_BLOCKS: usize = 16;
/// Maximum memory of waiting blocks. Two blocks may wait in any case.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// Size of a read in [`read_at_once`], in bytes.
const SMALL_READ_BYTES: usize = 16 * 1024;

/// Error of the input or of its copy.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    /// Standard input is closed or cannot be read.
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    /// A read failed.
    #[error("cannot read the input")]
    Read(#[source] io::Error),
    /// Writing the copy of `--tee` failed.
    #[error(transparent)]
    Tee(OutputError),
}

/// Checks that standard input can be read if it is the input, and that the copy can be written if
/// there is one. Called before anything is created, appended or closed.
///
/// # Errors
///
/// Standard input or standard output is closed, or cannot be read or written.
pub(crate) fn check(is_input: bool, tee: bool) -> Result<(), InputError> {
    if is_input {
        descriptors::stdin().map_err(InputError::Stdin)?;
    }
    if tee {
        Stdout::open().map_err(InputError::Tee)?;
    }
    Ok(())
}

/// The bytes that one `read` returned.
#[derive(Debug, Clone)]
pub(crate) struct Block(Arc<Buffer>);

/// Alignment of blocks in memory, in bytes. The kernel's buffers begin at a page boundary, and some
/// processors copy many times slower to an address a few bytes past a page boundary.
const ALIGNMENT: usize = 64;

#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(size: usize) -> Self {
        let bytes = vec![0; size.saturating_add(ALIGNMENT)].into_boxed_slice();
        Self { start: bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT), bytes, len: 0 }
    }

    /// Returns the space for a whole block.
    fn room(&mut self, size: usize) -> &mut [u8] {
        self.bytes.get_mut(self.start..).and_then(|room| room.get_mut(..size)).unwrap_or_default()
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Buffer { bytes, start, len } = &*self.0;
        bytes.get(*start..start.saturating_add(*len)).unwrap_or_default()
    }
}

/// The blocks of the input, in order.
#[derive(Debug)]
pub(crate) struct Input(mpsc::Receiver<Result<Block, InputError>>);

impl Input {
    /// Reads sources one after the other, in blocks of at most `block_size` bytes, and copies them
    /// to standard output if `tee` is set.
    ///
    /// The input ends when the reader of the copy is gone.
    pub(crate) fn new(sources: Vec<Source>, block_size: usize, tee: bool) -> io::Result<Self> {
        let copy = if tee { Some(Stdout::open().map_err(io::Error::other)?) } else { None };
        Self::read(Sources(sources.into()), copy, block_size)
    }

    fn read<R, W>(input: R, copy: Option<W>, block_size: usize) -> io::Result<Self>
    where
        R: Read + Send + 'static,
        W: Write + Send + 'static,
    {
        let waiting = (MAX_WAITING_BYTES / block_size.max(1)).clamp(2, MAX_WAITING_BLOCKS);
        let (sender, receiver) = mpsc::channel(waiting);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            if let Err(error) = read_all(input, copy, block_size, &sender) {
                // The receiver is gone if the stream has failed.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        Ok(Self(receiver))
    }

    /// Waits for the next block; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Block, InputError>> {
        self.0.recv().await
    }

    /// Returns the next block if one is ready.
    pub(crate) fn try_next(&mut self) -> Option<Result<Block, InputError>> {
        self.0.try_recv().ok()
    }
}

fn read_all<R: Read, W: Write>(
    mut input: R,
    mut copy: Option<W>,
    block_size: usize,
    sender: &mpsc::Sender<Result<Block, InputError>>,
) -> Result<(), InputError> {
    let mut pool = Pool { block_size, lent: VecDeque::new() };
    loop {
        let mut buffer = pool.take();
        // Always succeeds: the pool returns only buffers without another holder.
        let Some(empty) = Arc::get_mut(&mut buffer) else { continue };
        empty.len = match input.read(empty.room(block_size)) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(InputError::Read(error)),
        };
        let block = Block(buffer);
        // Sent before it is copied, so that a slow reader of the copy does not delay the stream.
        if sender.blocking_send(Ok(block.clone())).is_err() {
            return Ok(());
        }
        if let Some(copy) = &mut copy {
            match copy.write_all(&block).map_err(OutputError::from) {
                Ok(()) => {}
                Err(OutputError::Closed) => return Ok(()),
                Err(error) => return Err(InputError::Tee(error)),
            }
        }
        pool.lent.push_back(block.0);
    }
}

/// Buffer pool: reuses the buffers of blocks that were sent.
struct Pool {
    block_size: usize,
    lent: VecDeque<Arc<Buffer>>,
}

impl Pool {
    /// Returns a buffer without another holder. The channel bounds the number of buffers.
    fn take(&mut self) -> Arc<Buffer> {
        match self.lent.front_mut().map(Arc::get_mut) {
            Some(Some(_)) => self.lent.pop_front().unwrap_or_else(|| self.make()),
            _ => self.make(),
        }
    }

    fn make(&self) -> Arc<Buffer> {
        Arc::new(Buffer::new(self.block_size))
    }
}

/// One source of the input.
#[derive(Debug)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// The standard output of a command that `pfs` has started.
    Command(PipeReader),
    /// A file named on the command line.
    File(File),
}

/// Reads what is available without blocking, about `most` bytes at most. Removes sources that are
/// at their end, so that none is left if this was the whole input. An error of a read is ignored
/// here; the next read returns it.
pub(crate) fn read_at_once(sources: &mut Vec<Source>, most: usize) -> Vec<u8> {
    let (mut held, mut block) = (Vec::new(), vec![0; SMALL_READ_BYTES]);
    while let Some(source) = sources.first_mut()
        && held.len() <= most
        && is_readable(source.as_fd())
    {
        match source.read(&mut block) {
            Ok(0) => drop(sources.remove(0)),
            Ok(len) => held.extend_from_slice(block.get(..len).unwrap_or_default()),
            Err(_) => break,
        }
    }
    held
}

/// Reads sources one after the other.
struct Sources(VecDeque<Source>);

impl Read for Sources {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(source) = self.0.front_mut() {
            match source.read(buffer)? {
                0 if !buffer.is_empty() => drop(self.0.pop_front()),
                len => return Ok(len),
            }
        }
        Ok(0)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdin => rustix::stdio::stdin(),
            Self::Command(pipe) => pipe.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin => Stdin.read(buffer),
            Self::Command(pipe) => pipe.read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}

/// File descriptor 0, unbuffered.
///
/// If another process has made the descriptor non-blocking, a read waits with poll(2). The flag
/// stays as it is, because the processes share it.
#[derive(Debug)]
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
                Err(rustix::io::Errno::AGAIN) => {
                    let stdin = rustix::stdio::stdin();
                    poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None)?;
                }
                read => return Ok(read?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A reader that returns one given piece per call.
    struct Pieces(VecDeque<io::Result<&'static [u8]>>);

    impl Pieces {
        fn new(pieces: impl IntoIterator<Item = io::Result<&'static [u8]>>) -> Self {
            Self(pieces.into_iter().collect())
        }
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else { return Ok(0) };
            let piece = piece?;
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[derive(Clone, Default)]
    struct Copy(Arc<Mutex<Vec<u8>>>);

    impl Write for Copy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut copied = self.0.lock().unwrap();
            if copied.len() > 3 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            copied.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn blocks(mut input: Input) -> (Vec<Vec<u8>>, Option<InputError>) {
        let mut blocks = Vec::new();
        while let Some(block) = input.next().await {
            match block {
                Ok(block) => blocks.push(block.to_vec()),
                Err(error) => return (blocks, Some(error)),
            }
        }
        (blocks, None)
    }

    #[tokio::test]
    async fn every_read_becomes_one_block_of_any_size() {
        let pieces = Pieces::new([Ok(&b"one"[..]), Ok(b"2"), Ok(b"three")]);
        let input = Input::read(pieces, None::<Stdout>, 8).unwrap();
        assert_eq!(blocks(input).await.0, [&b"one"[..], b"2", b"three"]);
    }

    #[tokio::test]
    async fn blocks_stay_unchanged_while_more_is_read() {
        let text = "0123456789".repeat(100);
        let input = Input::read(io::Cursor::new(text.clone()), None::<Stdout>, 3).unwrap();
        assert_eq!(blocks(input).await.0.concat(), text.as_bytes());
    }

    #[tokio::test]
    async fn an_error_comes_after_the_blocks_read_before_it() {
        let pieces = Pieces::new([
            Ok(&b"one"[..]),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(b"2"),
            Err(io::Error::other("bad disk")),
        ]);
        let (blocks, error) = blocks(Input::read(pieces, None::<Stdout>, 8).unwrap()).await;
        assert_eq!(blocks, [&b"one"[..], b"2"]);
        assert!(matches!(error, Some(InputError::Read(error)) if error.to_string() == "bad disk"));
    }

    #[tokio::test]
    async fn the_input_ends_when_the_reader_of_the_copy_is_gone() {
        let copy = Copy::default();
        let pieces = Pieces::new([Ok(&b"one"[..]), Ok(b"two"), Ok(b"three"), Ok(b"four")]);
        let (blocks, error) = blocks(Input::read(pieces, Some(copy.clone()), 8).unwrap()).await;
        assert!(error.is_none());
        // Everything that was read is sent, also the piece that could not be copied.
        assert_eq!(blocks, [&b"one"[..], b"two", b"three"]);
        assert_eq!(*copy.0.lock().unwrap(), b"onetwo");
    }

    #[test]
    fn a_block_has_its_full_size_and_is_aligned_to_a_cache_line() {
        for size in [1, 63, 4096, 65_536, 1_000_000] {
            let mut buffer = Buffer::new(size);
            assert_eq!(
                (buffer.room(size).len(), buffer.room(size).as_ptr().align_offset(ALIGNMENT)),
                (size, 0)
            );
        }
    }

    #[test]
    fn a_buffer_is_reused_after_its_block_is_dropped() {
        let mut pool = Pool { block_size: 4, lent: VecDeque::new() };
        let first = pool.take();
        let address = first.bytes.as_ptr();
        let block = Block(Arc::clone(&first));
        pool.lent.push_back(first);
        assert_ne!(pool.take().bytes.as_ptr(), address);
        drop(block);
        assert_eq!(pool.take().bytes.as_ptr(), address);
    }
}
