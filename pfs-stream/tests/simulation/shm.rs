//! An shm reader and its host: what happens between another process and the daemon, in one process.

use std::{fs::File, io, os::unix::fs::FileExt};

use pfs_stream::{
    shm::{Handout, NextRing, Notifier, ShmReader},
    *,
};

use crate::{
    hand::SEALED,
    ledger::{Held, Place},
};

/// Where a ring has the numbers of its oldest chunk and of its next chunk.
const TAIL: u64 = 128;
const HEAD: u64 = 256;

/// The ring that a process was given when it asked.
pub(crate) struct Answer {
    pub(crate) next: NextRing,
    /// The number of the ring.
    pub(crate) ring: usize,
}

/// Both ends of an shm reader. Dropped together, as when the other process dies.
pub(crate) struct ShmProcess {
    pub(crate) handout: Handout,
    reader: ShmReader,
    pub(crate) can_follow: bool,
    /// The position at which the reader was handed out.
    pub(crate) start: Place,
    /// The number of the ring that the process has mapped, and the file of that ring.
    pub(crate) ring: usize,
    file: File,
    /// The ring that the process was given and has not mapped.
    pub(crate) answer: Option<Answer>,
    pub(crate) has_asked: bool,
}

impl ShmProcess {
    /// Maps what a reader of this process was turned into, at this position.
    pub(crate) fn open(mut handout: Handout, start: Place, can_follow: bool) -> io::Result<Self> {
        let file = || io::Error::from(io::ErrorKind::NotFound);
        let ring = handout.ring().ok_or_else(file)?.try_clone_to_owned()?;
        let page = handout.page().ok_or_else(file)?.try_clone_to_owned()?;
        let file = File::from(ring.try_clone()?);
        let mut reader = ShmReader::open(ring, page, &handout.start())?;
        if let Some([asleep, room]) = handout.wake_files() {
            reader.wake_by(asleep.try_clone_to_owned()?, room.try_clone_to_owned()?)?;
        }
        handout.close_files();
        Ok(Self {
            handout,
            reader,
            can_follow,
            start,
            ring: 0,
            file,
            answer: None,
            has_asked: false,
        })
    }

    /// One read. Tells a writer that waits for the reader that there is room.
    pub(crate) fn read(
        &mut self,
        sink: &mut impl Sink,
        most: usize,
    ) -> Result<Option<Read>, ReadError> {
        let read = self.reader.try_read(sink, most);
        if self.reader.room_is_wanted() {
            self.handout.made_room();
        }
        read
    }

    /// Continues in the ring that the process was given.
    pub(crate) fn map(&mut self) -> io::Result<()> {
        let Some(Answer { next, ring }) = self.answer.take() else { return Ok(()) };
        self.file = File::from(next.file().try_clone_to_owned()?);
        self.ring = ring;
        self.reader.follow(next.file().try_clone_to_owned()?, next.layout())?;
        match next.wake_files() {
            Some([asleep, room]) => {
                self.reader.wake_by(asleep.try_clone_to_owned()?, room.try_clone_to_owned()?)
            }
            None => Ok(()),
        }
    }

    /// What a ring holds by its own account, if the process has that ring or was given it.
    pub(crate) fn counters(&self, ring: usize) -> Option<Held> {
        let file = match &self.answer {
            Some(answer) if answer.ring == ring => {
                File::from(answer.next.file().try_clone_to_owned().ok()?)
            }
            _ if self.ring == ring => self.file.try_clone().ok()?,
            _ => return None,
        };
        let word = |at| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).map(|()| u64::from_ne_bytes(bytes) as usize)
        };
        let head = word(HEAD).ok()? & !(SEALED as usize);
        Some(Held { tail: word(TAIL).ok()?, head, is_left: true })
    }

    pub(crate) fn has_to_follow(&self) -> bool {
        self.reader.has_to_follow()
    }

    pub(crate) fn position(&self) -> u64 {
        self.reader.position()
    }

    pub(crate) fn notifier(&self) -> Notifier {
        self.reader.notifier()
    }
}
