//! An shm reader and its host: what another process and the daemon do between them, in one process.

use std::io;

use pfs_stream::{
    mapped::{Bell, Handout, MappedReader},
    *,
};

/// Both ends of a reader in shared memory. Dropped together, as when the other process dies.
pub(crate) struct ShmReader {
    pub(crate) handout: Handout,
    reader: MappedReader,
}

impl ShmReader {
    /// Maps what a reader of this process was turned into.
    pub(crate) fn open(mut handout: Handout) -> io::Result<Self> {
        let file = || io::Error::from(io::ErrorKind::NotFound);
        let ring = handout.ring().ok_or_else(file)?.try_clone_to_owned()?;
        let page = handout.page().ok_or_else(file)?.try_clone_to_owned()?;
        let reader = MappedReader::open(ring, page, &handout.start())?;
        handout.close_files();
        Ok(Self { handout, reader })
    }

    /// One read. Tells a writer that waits for it that there is room.
    pub(crate) fn read(&mut self, sink: &mut impl Sink, most: usize) -> Result<Option<Read>, ReadError> {
        let read = self.reader.try_read(sink, most);
        if self.reader.room_is_wanted() {
            self.handout.made_room();
        }
        read
    }

    pub(crate) fn position(&self) -> u64 {
        self.reader.position()
    }

    pub(crate) fn bell(&self) -> Bell {
        self.reader.bell()
    }
}
