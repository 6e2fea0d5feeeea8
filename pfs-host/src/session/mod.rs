//! Sessions: what one client does with one stream, whatever protocol they speak.
//!
//! A session begins and ends here, and is logged here. A protocol pulls: it polls the session for
//! what is to be sent, in its own encoding, when its client can take it.

mod append;
mod batch;
mod follow;
mod gap_log;
mod page;
mod patience;
mod piece;
mod put;
mod reading_log;
mod watch;

pub use self::{
    append::{Append, Rejected},
    batch::{Batch, Checked, NotAppended},
    follow::{Broken, Encoder, Follow, Gap},
    page::{Edge, Page, PageError},
    piece::Piece,
    put::Put,
    watch::Watch,
};
pub(crate) use self::{patience::Patience, reading_log::ReadingLog};
