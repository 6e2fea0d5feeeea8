//! Streams, writers and readers of a run, each beside its model.

use std::{
    cell::RefCell,
    future::Future,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use pfs_stream::{Finish, Reader, Stream, WriteError, Writer};

use crate::{
    model::{Follower, Model, Pieces, byte_at},
    operation::How,
};

/// Polls a future once.
pub fn now<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A stream, whether it is still in the registry or not.
pub struct Hosted {
    pub stream: Stream,
    pub model: RefCell<Model>,
}

impl Hosted {
    /// Compares all stats with the model's.
    pub fn check(&self) {
        let (stat, model) = (self.stream.stat(), self.model.borrow());
        assert_eq!((stat.head, stat.chunks), (model.head(), model.chunks()));
        assert_eq!(stat.chunks_held, model.chunks_between(stat.tail, stat.head));
        assert!(model.is_boundary(stat.tail) && stat.head - stat.tail <= stat.capacity);
        assert!(stat.capacity >= model.ring_buffer_size.max(model.channel_buffer_size));
        assert_eq!(stat.writers.len(), model.writers);
        assert_eq!((stat.writers_finished, stat.writers_died), (model.finished, model.deaths));
        assert_eq!((stat.readers.len(), self.stream.readers()), (model.readers, model.readers));
        assert_eq!(stat.lost_bytes, model.lost_bytes);
        assert!(
            !stat.writers.iter().any(|writer| writer.waiting),
            "a cancelled append no longer waits"
        );
    }
}

pub struct Producer {
    pub hosted: Rc<Hosted>,
    pub writer: Writer,
    /// True if the writer pushed chunks for which it has not woken readers.
    pushed: bool,
}

impl Producer {
    pub fn new(hosted: Rc<Hosted>, writer: Writer) -> Self {
        let mut model = hosted.model.borrow_mut();
        assert!(!model.closed && !model.removed);
        if model.writers == 0 {
            model.deaths_before = model.deaths;
        }
        model.writers += 1;
        model.written = true;
        drop(model);
        Self { hosted, writer, pushed: false }
    }

    /// Appends a chunk. Returns false if the engine would have waited.
    pub fn append(&mut self, len: u64, how: How) -> bool {
        let (head, refusal) = {
            let model = self.hosted.model.borrow();
            (model.head(), model.refusal(len))
        };
        let chunk: Vec<u8> = (head..head + len).map(byte_at).collect();
        let appended = match self.engine_append(&chunk, how) {
            Err(error) => {
                assert_eq!(Some(error), refusal);
                return true;
            }
            Ok(appended) => appended,
        };
        assert_eq!(refusal, None);
        if appended {
            let mut model = self.hosted.model.borrow_mut();
            model.appended(len);
            assert_eq!(self.writer.readers(), model.readers);
            if len > 0 {
                assert_eq!(self.writer.offset(), model.head());
            }
            self.pushed |= len > 0;
            model.unannounced |= len > 0;
        }
        // A writer that has to wait wakes the readers first, because it may wait for one of them.
        if !matches!((how, appended), (How::Push, true)) {
            self.wakes();
        }
        appended
    }

    fn engine_append(&mut self, chunk: &[u8], how: How) -> Result<bool, WriteError> {
        let poll = match how {
            How::Try => Poll::Ready(self.writer.try_append(chunk)),
            How::Cancelled => now(self.writer.append(chunk)),
            How::Push => now(self.writer.push(chunk)).map_ok(drop),
        };
        match poll {
            Poll::Ready(Err(WriteError::Full)) | Poll::Pending => Ok(false),
            Poll::Ready(appended) => appended.map(|()| true),
        }
    }

    pub fn wake(&mut self) {
        self.writer.wake();
        self.wakes();
    }

    /// Records that the engine had to wake all sleepers if this writer had pushed anything.
    fn wakes(&mut self) {
        if std::mem::take(&mut self.pushed) {
            self.hosted.model.borrow_mut().unannounced = false;
        }
    }

    pub fn finish(mut self, close: bool) {
        self.wakes();
        let mut model = self.hosted.model.borrow_mut();
        model.writers -= 1;
        model.finished += 1;
        if close {
            model.closes(false);
        }
        self.writer.finish(if close { Finish::Close } else { Finish::KeepOpen });
    }

    pub fn fail(mut self, close: bool) {
        self.wakes();
        let mut model = self.hosted.model.borrow_mut();
        model.writers -= 1;
        model.deaths += 1;
        if close {
            model.closes(true);
        }
        self.writer.finish(if close { Finish::CloseFailed } else { Finish::Failed });
    }

    pub fn die(mut self) {
        self.wakes();
        let mut model = self.hosted.model.borrow_mut();
        model.writers -= 1;
        model.deaths += 1;
    }
}

pub struct Attached {
    pub hosted: Rc<Hosted>,
    reader: Reader,
    pub follower: Follower,
    /// Present while the reader sleeps.
    asleep: Option<Arc<Woken>>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Attached {
    pub fn new(hosted: Rc<Hosted>, reader: Reader, follower: Follower) -> Self {
        hosted.model.borrow_mut().readers += 1;
        Self { hosted, reader, follower, asleep: None }
    }

    pub fn read(&mut self, max_bytes: usize, max_piece: usize, sleep: bool) {
        if self.follower.ended {
            return;
        }
        let mut sink = Pieces::new(max_piece);
        let tail = self.hosted.stream.summary().tail;
        self.asleep = None;
        let read = if sleep {
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            match self.reader.poll_read(&mut Context::from_waker(&waker), &mut sink, max_bytes) {
                Poll::Ready(read) => read.map(Some),
                Poll::Pending => {
                    self.asleep = Some(woken);
                    Ok(None)
                }
            }
        } else {
            self.reader.try_read(&mut sink, max_bytes)
        };
        self.follower.check(&mut self.hosted.model.borrow_mut(), tail, max_bytes, read, &sink);
        let told = (self.reader.position(), self.reader.lost_bytes());
        assert_eq!(told, (self.follower.position(), self.follower.lost));
    }

    /// Reads until there is nothing more for now.
    pub fn drain(&mut self) {
        while !self.follower.ended && !self.follower.sleeps(&self.hosted.model.borrow()) {
            self.read(64 * 1024, usize::MAX, false);
        }
    }

    /// Checks that the reader does not sleep while there is something to read.
    pub fn check(&self) {
        let model = self.hosted.model.borrow();
        let asleep = self.asleep.as_ref().is_some_and(|woken| !woken.0.load(Ordering::Relaxed));
        if asleep && !model.unannounced {
            assert!(self.follower.sleeps(&model), "a wake-up was missed: {:?}", self.follower);
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hosted.model.borrow_mut().readers -= 1;
    }
}
