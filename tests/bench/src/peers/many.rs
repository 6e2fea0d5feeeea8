//! Many streams with one chunk each: created over one connection with pipelined requests, and
//! listed.

use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    time::Duration,
};

use pfs_measure::clock;
use serde::Deserialize;

use super::{
    Address, Peer, Receive,
    connection::{FramedReader, Parse, connect, give_up_after},
    mqtt, nats, pfs, resp,
};
use crate::job::name;

/// Bytes of requests that are sent at once. The answers are read after as many bytes again have
/// been sent.
const BATCH: usize = 64 * 1024;

/// Number of JetStream streams that are created before something is published to them.
const JETSTREAM_BATCH: usize = 256;

/// Time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates streams with this chunk each, up to `count` streams. Returns their number, which is
/// smaller if the peer is too slow to finish before `end`.
pub fn make(
    peer: Peer,
    address: &Address,
    count: usize,
    chunk: &[u8],
    end: u64,
) -> io::Result<usize> {
    match peer {
        Peer::RedisStreams => Pipeline::new(connect(address)?, resp::Added)?
            .all(0..count, |stream, out| resp::add(&name(stream), chunk, out)),
        Peer::Mosquitto => Pipeline::new(mqtt::open(address, "writer")?, mqtt::Acks)?
            .all(0..count, |stream, out| mqtt::retain(stream, &name(stream), chunk, out)),
        Peer::JetStream => return make_jetstream(address, count, chunk, end),
        _ => pfs::Many::connect(address)?.make(count, chunk, None),
    }?;
    Ok(count)
}

fn make_jetstream(address: &Address, count: usize, chunk: &[u8], end: u64) -> io::Result<usize> {
    let mut pipeline = Pipeline::new(nats::subscribed(address)?, nats::Answers)?;
    let mut made = 0;
    while made < count && clock::now() < end {
        let batch = made..count.min(made + JETSTREAM_BATCH);
        made = batch.end;
        pipeline.all(batch.clone(), |stream, out| {
            let name = name(stream);
            let config = format!(r#"{{"name":"{name}","subjects":["{name}"],"storage":"memory"}}"#);
            nats::ask(&format!("$JS.API.STREAM.CREATE.{name}"), config.as_bytes(), out);
        })?;
        pipeline.all(batch, |stream, out| nats::ask(&name(stream), chunk, out))?;
    }
    Ok(made)
}

/// Lists all streams and returns the length of the list.
pub fn list(peer: Peer, address: &Address) -> io::Result<usize> {
    match peer {
        Peer::RedisStreams => listed(connect(address)?, &resp::scan(), resp::Names::default()),
        Peer::Mosquitto => {
            listed(mqtt::open(address, "reader")?, mqtt::SUBSCRIBE_ALL, mqtt::Retained)
        }
        Peer::JetStream => list_jetstream(address),
        _ => pfs::Many::connect(address)?.list(),
    }
}

/// Sends a request and counts the chunks up to an empty one.
fn listed(mut connection: File, request: &[u8], parse: impl Parse) -> io::Result<usize> {
    connection.write_all(request)?;
    let mut answers = FramedReader::new(give_up_after(connection, PATIENCE)?, BATCH, parse);
    let (mut count, mut ended) = (0, false);
    while !ended {
        more(&mut answers, |name| if name.is_empty() { ended = true } else { count += 1 })?;
    }
    Ok(count)
}

/// Answer to `$JS.API.STREAM.NAMES`.
#[derive(Deserialize)]
struct Page {
    total: usize,
    streams: Option<Vec<String>>,
}

fn list_jetstream(address: &Address) -> io::Result<usize> {
    let mut pipeline = Pipeline::new(nats::subscribed(address)?, nats::Answers)?;
    let mut count = 0;
    loop {
        let mut request = Vec::new();
        nats::ask(
            "$JS.API.STREAM.NAMES",
            format!(r#"{{"offset":{count}}}"#).as_bytes(),
            &mut request,
        );
        pipeline.connection.write_all(&request)?;
        let mut page = None;
        more(&mut pipeline.answers, |json| page = Some(serde_json::from_slice::<Page>(json)))?;
        let page = page.ok_or(io::ErrorKind::InvalidData)??;
        let names = page.streams.map_or(0, |names| names.len());
        count += names;
        if count >= page.total || names == 0 {
            return Ok(count);
        }
    }
}

/// Waits for answers.
fn more<P: Parse>(answers: &mut FramedReader<P>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    if answers.receive(&mut take)? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Connection with pipelined requests: they are sent before the answers to earlier ones have
/// arrived.
struct Pipeline<P> {
    connection: File,
    answers: FramedReader<P>,
}

impl<P: Parse> Pipeline<P> {
    fn new(connection: File, parse: P) -> io::Result<Self> {
        let connection = give_up_after(connection, PATIENCE)?;
        let answers = FramedReader::new(connection.try_clone()?, BATCH, parse);
        Ok(Self { connection, answers })
    }

    /// Sends a request for each of these streams and reads the answer to each.
    fn all(
        &mut self,
        streams: Range<usize>,
        request: impl Fn(usize, &mut Vec<u8>),
    ) -> io::Result<()> {
        let (mut sent, mut answered) = (streams.start, streams.start);
        let mut out = Vec::with_capacity(2 * BATCH);
        while answered < streams.end {
            let before = sent;
            while sent < streams.end && out.len() < BATCH {
                request(sent, &mut out);
                sent += 1;
            }
            self.connection.write_all(&out)?;
            out.clear();
            let wanted = if sent < streams.end { before } else { sent };
            while answered < wanted {
                more(&mut self.answers, |_| answered += 1)?;
            }
        }
        Ok(())
    }
}
