//! Encoding and decoding of messages.

mod event;
mod fields;
pub(crate) mod kind;
mod options;
mod reply;
mod request;
mod stat;
