//! Sessions: what clients do with streams, whatever protocol they speak.
//!
//! A session begins and ends here, and is logged here. A protocol pulls: it polls the session for what is to be sent, in its own
//! encoding, when its client can take it.

mod append;
mod attach;
mod follow;
mod gap_log;
mod reading_log;

pub(crate) use self::reading_log::ReadingLog;
pub use self::{
    append::{Append, Rejected},
    attach::Attach,
    follow::{Broken, Encoder, Follow, Gap},
};
