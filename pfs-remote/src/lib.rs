//! Remote mounts: the streams of another daemon, the owner, as if they were here.
//!
//! The first local reader of a stream makes this daemon follow the stream at its owner, over one
//! connection: the link. The link fills a replica, which all local readers follow, over any
//! transport. So each byte crosses the network once for each machine, however many readers there
//! are. The replica has the owner's offsets, identity and times. It goes away a while after its
//! last reader.
//!
//! A link whose connection breaks connects again, and continues with the same stream at the same
//! offset. What the owner has overwritten meanwhile is a gap, of which every local reader is told.
//! If the owner has another stream by then, the replica is removed.
//!
//! Stats, events and listings come from the owner. What changes a stream goes there: creating,
//! appending, closing and removing. An acknowledgement is the owner's.

mod follow;
mod mount;
mod owner;
mod policy;
mod relay;
mod replicas;
mod stats;

pub use mount::RemoteMount;
pub use owner::{Keep, RemoteSettings, UrlError, mounted_path};
