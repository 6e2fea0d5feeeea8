//! HTTP interface of `pfsd`: streams as URLs, requested by `curl`, by `pfs --url` and by the tests'
//! own clients.

mod agfs;
mod durable;
mod frames;
mod hang_up;
mod http2;
mod limits;
mod operations;
pub(crate) mod plain;
mod refusals;
mod reload;
mod security;
mod shutdown;
pub(crate) mod silent;
pub(crate) mod sse;
mod starting;
pub(crate) mod tls;
