//! How messages become bytes and bytes become messages.

mod event;
mod fields;
pub(crate) mod kind;
mod options;
mod reply;
mod request;
mod stat;
