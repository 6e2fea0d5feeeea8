//! Sessions: the work of one client on one stream, whatever the protocol.
//!
//! A session begins, ends and is logged here. A protocol pulls: when its client can take more, it
//! polls the session for bytes in the protocol's encoding.

mod append;
mod batch;
mod follow;
mod gap_log;
mod page;
mod patience;
mod piece;
mod put;
mod reading_log;
mod upload;
mod watch;

pub use self::{
    append::{Append, Rejected},
    batch::{Batch, Checked, NotAppended},
    follow::{Broken, Encoder, Follow, Gap},
    page::{Edge, Page, PageError},
    piece::Piece,
    put::Put,
    upload::Upload,
    watch::Watch,
};
pub(crate) use self::{patience::Patience, reading_log::ReadingLog};
