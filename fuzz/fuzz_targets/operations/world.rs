//! The registry of a run, its streams, writers and readers, and how each operation is applied to
//! them.

use std::{cell::RefCell, mem, pin::Pin, rc::Rc, task::Poll};

use pfs_stream::{
    AttachError, CreateError, Limits, Peer, PendingReader, ReadOptions, Reader, Registry, Start,
    StreamConfig,
};

use crate::{
    model::{Follower, Model},
    operation::{How, Operation, Options},
    party::{Attached, Hosted, Producer, now},
};

const NAMES: [&str; 3] = ["a", "b", "b/c"];
const LIMITS: Limits = Limits { max_streams: 2, max_memory: 256 * 1024 };
/// Maximum number of writers, and of readers. More would only take longer.
const MANY: usize = 16;

/// A reader that waits for its stream to be created.
struct Wait {
    name: usize,
    options: ReadOptions,
    pending: PendingReader,
}

pub struct World {
    registry: Registry,
    names: [Option<Rc<Hosted>>; NAMES.len()],
    writers: Vec<Producer>,
    readers: Vec<Attached>,
    waits: Vec<Wait>,
}

/// The index of writer, reader or wait `number` of `count`.
fn pick(count: usize, number: u8) -> Option<usize> {
    usize::from(number).checked_rem(count)
}

impl World {
    pub fn new() -> Self {
        Self {
            registry: Registry::new(LIMITS),
            names: Default::default(),
            writers: Vec::new(),
            readers: Vec::new(),
            waits: Vec::new(),
        }
    }

    pub fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Create { stream, ring_buffer_size, channel_buffer_size } => {
                self.create(stream, ring_buffer_size.into(), channel_buffer_size.into());
            }
            Operation::Close { stream, failed } => {
                if let (_, Some(hosted)) = self.named(stream) {
                    let mut model = hosted.model.borrow_mut();
                    model.closes(failed);
                    if failed {
                        assert_eq!(hosted.stream.close_failed(), model.failed);
                    } else {
                        hosted.stream.close();
                    }
                }
            }
            Operation::Remove { stream } => self.remove(stream),
            Operation::OpenWriter { stream } => self.open_writer(stream),
            Operation::Append { writer, len, how } => self.append(writer, len.into(), how),
            Operation::AppendBytes { writer, count } => {
                (0..count).for_each(|_| self.append(writer, 1, How::Push));
            }
            Operation::Wake { writer } => {
                if let Some(writer) = pick(self.writers.len(), writer) {
                    self.writers[writer].wake();
                }
            }
            Operation::Finish { writer, close } => {
                if let Some(writer) = pick(self.writers.len(), writer) {
                    self.writers.swap_remove(writer).finish(close);
                }
            }
            Operation::Fail { writer, close } => {
                if let Some(writer) = pick(self.writers.len(), writer) {
                    self.writers.swap_remove(writer).fail(close);
                }
            }
            Operation::Die { writer } => {
                if let Some(writer) = pick(self.writers.len(), writer) {
                    self.writers.swap_remove(writer).die();
                }
            }
            Operation::Join { stream, options } => self.join(stream, options),
            Operation::Wait { stream, options } => self.wait(stream, options),
            Operation::Read { reader, max_bytes, max_piece, sleep } => {
                if let Some(reader) = self.reader(reader) {
                    reader.read(max_bytes.into(), max_piece.into(), sleep);
                }
            }
            Operation::Drain { reader } => {
                if let Some(reader) = self.reader(reader) {
                    reader.drain();
                }
            }
            Operation::Leave { reader } => {
                if let Some(reader) = pick(self.readers.len(), reader) {
                    self.readers.swap_remove(reader);
                }
            }
            Operation::StopWaiting { wait } => {
                if let Some(wait) = pick(self.waits.len(), wait) {
                    self.waits.swap_remove(wait);
                }
            }
        }
    }

    fn named(&self, stream: u8) -> (usize, Option<Rc<Hosted>>) {
        // Mostly the first name: many faults take several steps on the same stream.
        let name = (usize::from(stream) % (2 * NAMES.len())).saturating_sub(NAMES.len());
        (name, self.names[name].clone())
    }

    /// The stream of this name. A small one is created if there is none and the limits allow it.
    fn named_or_new(&mut self, stream: u8) -> Option<Rc<Hosted>> {
        self.create(stream, 6000, 2000);
        self.named(stream).1
    }

    fn create(&mut self, stream: u8, ring_buffer_size: u64, channel_buffer_size: u64) {
        let (name, known) = self.named(stream);
        let before = (self.registry.len(), self.registry.memory());
        // Reserve memory: the model predicts the contents of a stream only if its ring buffer has
        // full size.
        let config = StreamConfig {
            ring_buffer_size,
            channel_buffer_size,
            reserve: true,
            ..StreamConfig::default()
        };
        let stream = match self.registry.create(NAMES[name], config) {
            Ok(stream) => stream,
            Err(error) => {
                match error {
                    CreateError::Exists => assert!(known.is_some()),
                    CreateError::BadSize { .. } => {
                        assert!(ring_buffer_size == 0 || channel_buffer_size == 0)
                    }
                    CreateError::TooManyStreams { limit } => assert_eq!(before.0, limit),
                    CreateError::TooMuchMemory { needed, used, limit } => {
                        assert!(used == before.1 && used + needed > limit);
                    }
                    other => panic!("{other}"),
                }
                assert_eq!(
                    (self.registry.len(), self.registry.memory()),
                    before,
                    "nothing has changed"
                );
                return;
            }
        };
        assert!(known.is_none());
        let model = RefCell::new(Model::new(ring_buffer_size, channel_buffer_size));
        let hosted = Rc::new(Hosted { stream, model });
        self.names[name] = Some(Rc::clone(&hosted));
        let (ready, waiting) =
            mem::take(&mut self.waits).into_iter().partition(|wait| wait.name == name);
        self.waits = waiting;
        for mut wait in ready {
            let Poll::Ready(joined) = now(Pin::new(&mut wait.pending)) else {
                panic!("a ready wait is still pending")
            };
            self.joined(&hosted, wait.options, joined);
        }
    }

    fn remove(&mut self, stream: u8) {
        let (name, hosted) = self.named(stream);
        assert_eq!(self.registry.remove(NAMES[name]), hosted.is_some());
        if let Some(hosted) = hosted {
            hosted.model.borrow_mut().removed = true;
            self.names[name] = None;
        }
    }

    fn open_writer(&mut self, stream: u8) {
        if self.writers.len() >= MANY {
            return;
        }
        let Some(hosted) = self.named_or_new(stream) else { return };
        match hosted.stream.writer() {
            Err(error) => assert!(error == AttachError::Closed && hosted.model.borrow().closed),
            Ok(writer) => self.writers.push(Producer::new(hosted, writer)),
        }
    }

    fn append(&mut self, writer: u8, len: u64, how: How) {
        if self.writers.is_empty() {
            self.open_writer(0);
        }
        let Some(writer) = pick(self.writers.len(), writer).map(|writer| &mut self.writers[writer])
        else {
            return;
        };
        if !writer.append(len, how) {
            let model = writer.hosted.model.borrow();
            let of_it = |reader: &&Attached| Rc::ptr_eq(&reader.hosted, &writer.hosted);
            assert!(
                self.readers.iter().filter(of_it).any(|reader| reader.follower.blocks(&model)),
                "the writer waits without a blocking reader"
            );
        }
    }

    fn reader(&mut self, reader: u8) -> Option<&mut Attached> {
        if self.readers.is_empty() {
            self.join(0, Options::DEFAULT);
        }
        pick(self.readers.len(), reader).map(|reader| &mut self.readers[reader])
    }

    fn join(&mut self, stream: u8, options: Options) {
        if self.readers.len() >= MANY {
            return;
        }
        if let Some(hosted) = self.named_or_new(stream) {
            let options = options.resolve(hosted.model.borrow().head());
            let joined = hosted.stream.reader(options);
            self.joined(&hosted, options, joined);
        }
    }

    fn wait(&mut self, stream: u8, options: Options) {
        if self.waits.len() + self.readers.len() >= MANY {
            return;
        }
        let (name, hosted) = self.named(stream);
        let head = hosted.as_ref().map_or(0, |hosted| hosted.model.borrow().head());
        let options = options.resolve(head);
        let mut pending = self.registry.reader_when_created(NAMES[name], options, Peer::default());
        assert_eq!(pending.is_waiting(), hosted.is_none());
        match (now(Pin::new(&mut pending)), hosted) {
            (Poll::Pending, None) => self.waits.push(Wait { name, options, pending }),
            (Poll::Ready(joined), Some(hosted)) => self.joined(&hosted, options, joined),
            (poll, _) => panic!("{poll:?}"),
        }
    }

    fn joined(
        &mut self,
        hosted: &Rc<Hosted>,
        options: ReadOptions,
        joined: Result<Reader, AttachError>,
    ) {
        let model = hosted.model.borrow();
        match joined {
            Err(error) => {
                let Start::Offset(offset) = options.start else { panic!("{error}") };
                assert!(offset > model.head());
                assert_eq!(error, AttachError::PastHead { offset, head: model.head() });
            }
            Ok(reader) => {
                let tail = hosted.stream.summary().tail;
                model.check_start(options.start, tail, reader.start());
                assert_eq!(reader.head_at_attach(), model.head());
                let follower = Follower::new(options, &model, tail, reader.start());
                drop(model);
                self.readers.push(Attached::new(Rc::clone(hosted), reader, follower));
            }
        }
    }

    /// Invariants that hold after every step.
    pub fn check(&self) {
        assert!(self.registry.memory() <= LIMITS.max_memory);
        assert_eq!(self.registry.len(), self.names.iter().flatten().count());
        self.names.iter().flatten().for_each(|hosted| hosted.check());
        self.readers.iter().for_each(Attached::check);
        assert!(self.waits.iter().all(|wait| wait.pending.is_waiting()));
    }

    /// Drops everything, and checks that nothing is left.
    pub fn end(mut self) {
        (0..2 * NAMES.len() as u8).for_each(|stream| self.remove(stream));
        let registry = self.registry.clone();
        drop(self);
        assert_eq!((registry.len(), registry.memory()), (0, 0));
    }
}
