//! Encodes and decodes stream events.

use super::{
    fields::{FieldReader, FieldWriter},
    stat::{peer, put_peer},
};
use crate::{MessageError, StreamEvent};

const SUBSCRIBED: u8 = 0;
const FIRST_READER: u8 = 1;
const UNSUBSCRIBED: u8 = 2;
const NO_READERS: u8 = 3;
const GAP: u8 = 4;
const CLOSED: u8 = 5;
const REMOVED: u8 = 6;
const MISSED: u8 = 7;

pub(super) fn put_event(w: &mut FieldWriter<'_>, event: &StreamEvent) {
    match *event {
        StreamEvent::Subscribed { reader, peer, readers } => {
            w.u8(SUBSCRIBED);
            w.u64(reader);
            put_peer(w, peer);
            w.u32(readers);
        }
        StreamEvent::FirstReader => w.u8(FIRST_READER),
        StreamEvent::Unsubscribed { reader, peer, readers, lost_bytes, lost_chunks } => {
            w.u8(UNSUBSCRIBED);
            w.u64(reader);
            put_peer(w, peer);
            w.u32(readers);
            w.u64(lost_bytes);
            w.u64(lost_chunks);
        }
        StreamEvent::NoReaders => w.u8(NO_READERS),
        StreamEvent::Gap { reader, from, to, chunks } => {
            w.u8(GAP);
            w.u64(reader);
            w.u64(from);
            w.u64(to);
            w.u64(chunks);
        }
        StreamEvent::Closed { offset, failed } => {
            w.u8(CLOSED);
            w.u64(offset);
            w.bool(failed);
        }
        StreamEvent::Removed => w.u8(REMOVED),
        StreamEvent::Missed { count } => {
            w.u8(MISSED);
            w.u64(count);
        }
    }
}

pub(super) fn event(r: &mut FieldReader) -> Result<StreamEvent, MessageError> {
    Ok(match r.u8()? {
        SUBSCRIBED => {
            StreamEvent::Subscribed { reader: r.u64()?, peer: peer(r)?, readers: r.u32()? }
        }
        FIRST_READER => StreamEvent::FirstReader,
        UNSUBSCRIBED => StreamEvent::Unsubscribed {
            reader: r.u64()?,
            peer: peer(r)?,
            readers: r.u32()?,
            lost_bytes: r.u64()?,
            lost_chunks: r.u64()?,
        },
        NO_READERS => StreamEvent::NoReaders,
        GAP => {
            StreamEvent::Gap { reader: r.u64()?, from: r.u64()?, to: r.u64()?, chunks: r.u64()? }
        }
        CLOSED => StreamEvent::Closed { offset: r.u64()?, failed: r.bool("failed")? },
        REMOVED => StreamEvent::Removed,
        MISSED => StreamEvent::Missed { count: r.u64()? },
        value => return Err(r.bad("event", value.into())),
    })
}
