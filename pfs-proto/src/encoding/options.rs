//! Encodes and decodes the options of requests, and the start states of shm readers and leases.

use super::fields::{FieldReader, FieldWriter};
use crate::{
    CreateOptions, End, IfExists, Join, LeaseStart, MessageError, PutOptions, ReadOptions,
    RingLayout, ShmStart, SlowPolicy, Start, Until, WriteOptions,
};

pub(super) fn put_create_options(w: &mut FieldWriter<'_>, options: &CreateOptions) {
    let CreateOptions {
        ring_buffer_size,
        channel_buffer_size,
        ttl,
        content_type,
        if_exists,
        reserve,
    } = options;
    w.option(*ring_buffer_size, FieldWriter::u64);
    w.option(*channel_buffer_size, FieldWriter::u64);
    w.option(*ttl, FieldWriter::duration);
    w.option(content_type.as_deref(), FieldWriter::string);
    w.u8(match if_exists {
        IfExists::Fail => 0,
        IfExists::Keep => 1,
        IfExists::Replace => 2,
    });
    w.bool(*reserve);
}

pub(super) fn create_options(r: &mut FieldReader) -> Result<CreateOptions, MessageError> {
    Ok(CreateOptions {
        ring_buffer_size: r.option("ring buffer size", FieldReader::u64)?,
        channel_buffer_size: r.option("channel buffer size", FieldReader::u64)?,
        ttl: r.option("ttl", FieldReader::duration)?,
        content_type: r.option("content type", FieldReader::string)?,
        if_exists: match r.u8()? {
            0 => IfExists::Fail,
            1 => IfExists::Keep,
            2 => IfExists::Replace,
            value => return Err(r.bad("if_exists", value.into())),
        },
        reserve: r.bool("reserve")?,
    })
}

pub(super) fn put_put_options(w: &mut FieldWriter<'_>, options: &PutOptions) {
    let PutOptions { create, close } = options;
    put_create_options(w, create);
    w.bool(*close);
}

pub(super) fn put_options(r: &mut FieldReader) -> Result<PutOptions, MessageError> {
    Ok(PutOptions { create: create_options(r)?, close: r.bool("close")? })
}

pub(super) fn put_write_options(w: &mut FieldWriter<'_>, options: &WriteOptions) {
    let WriteOptions { wait_readers, replace, header_bytes } = options;
    w.u32(*wait_readers);
    w.bool(*replace);
    if *header_bytes > 0 {
        w.u32(*header_bytes);
    }
}

/// Reads the options of a writer that begins with a header, or of one without.
pub(super) fn write_options(
    r: &mut FieldReader,
    has_header: bool,
) -> Result<WriteOptions, MessageError> {
    Ok(WriteOptions {
        wait_readers: r.u32()?,
        replace: r.bool("replace")?,
        header_bytes: match has_header.then(|| r.u32()).transpose()? {
            None => 0,
            Some(0) => return Err(r.bad("header size", 0)),
            Some(bytes) => bytes,
        },
    })
}

pub(super) fn put_read_options(w: &mut FieldWriter<'_>, options: &ReadOptions) {
    let ReadOptions { start, policy, until, wait, join } = options;
    let start = match *start {
        Start::Oldest => (0, None),
        Start::New => (1, None),
        Start::Tail(bytes) => (2, Some(bytes)),
        Start::Since(duration) => {
            (3, Some(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
        }
        Start::Offset(offset) => (4, Some(offset)),
    };
    w.u8(start.0);
    w.u64(start.1.unwrap_or(0));
    put_policy(w, *policy);
    put_until(w, *until);
    w.bool(*wait);
    match join {
        Join::Raw => (),
        Join::Auto => w.u8(1),
        Join::Sync => w.u8(2),
    }
}

/// Reads the options of a reader that joins, or of one that gets exact bytes.
pub(super) fn read_options(r: &mut FieldReader, joins: bool) -> Result<ReadOptions, MessageError> {
    let (start, argument) = (r.u8()?, r.u64()?);
    Ok(ReadOptions {
        start: match start {
            0 => Start::Oldest,
            1 => Start::New,
            2 => Start::Tail(argument),
            3 => Start::Since(std::time::Duration::from_micros(argument)),
            4 => Start::Offset(argument),
            value => return Err(r.bad("start", value.into())),
        },
        policy: policy(r)?,
        until: until(r)?,
        wait: r.bool("wait")?,
        join: match joins.then(|| r.u8()).transpose()? {
            None => Join::Raw,
            Some(1) => Join::Auto,
            Some(2) => Join::Sync,
            Some(value) => return Err(r.bad("join", value.into())),
        },
    })
}

pub(super) fn put_policy(w: &mut FieldWriter<'_>, policy: SlowPolicy) {
    w.u8(match policy {
        SlowPolicy::Drop => 0,
        SlowPolicy::Block => 1,
        SlowPolicy::Disconnect => 2,
    });
}

pub(super) fn policy(r: &mut FieldReader) -> Result<SlowPolicy, MessageError> {
    match r.u8()? {
        0 => Ok(SlowPolicy::Drop),
        1 => Ok(SlowPolicy::Block),
        2 => Ok(SlowPolicy::Disconnect),
        value => Err(r.bad("slow policy", value.into())),
    }
}

pub(super) fn put_end(w: &mut FieldWriter<'_>, end: End) {
    w.u8(match end {
        End::Closed => 0,
        End::CaughtUp => 1,
        End::WritersGone => 2,
        End::WriterDied => 3,
        End::Failed => 4,
    });
}

pub(super) fn end(r: &mut FieldReader) -> Result<End, MessageError> {
    match r.u8()? {
        0 => Ok(End::Closed),
        1 => Ok(End::CaughtUp),
        2 => Ok(End::WritersGone),
        3 => Ok(End::WriterDied),
        4 => Ok(End::Failed),
        value => Err(r.bad("reason", value.into())),
    }
}

fn put_until(w: &mut FieldWriter<'_>, until: Until) {
    w.u8(match until {
        Until::Closed => 0,
        Until::CaughtUp => 1,
        Until::WritersGone => 2,
    });
}

fn until(r: &mut FieldReader) -> Result<Until, MessageError> {
    match r.u8()? {
        0 => Ok(Until::Closed),
        1 => Ok(Until::CaughtUp),
        2 => Ok(Until::WritersGone),
        value => Err(r.bad("until", value.into())),
    }
}

pub(super) fn put_shm_start(w: &mut FieldWriter<'_>, start: &ShmStart) {
    w.u64(start.layout.capacity);
    w.u64(start.channel_buffer_size);
    w.u64(start.seq);
    w.u64(start.offset);
    w.option(start.missing, FieldWriter::u64);
    put_policy(w, start.policy);
    put_until(w, start.until);
    w.u64(start.head);
    w.u64(start.deaths_before);
    w.bool(start.live);
    put_kind_of_ring(w, start.layout.entries, start.leased);
}

/// Writes the optional fields that describe a ring. Peers without `Hello::MOVING` know neither
/// field; they only get rings of full size that are not leased, for which both fields are omitted.
fn put_kind_of_ring(w: &mut FieldWriter<'_>, entries: Option<u64>, leased: bool) {
    if entries.is_some() || leased {
        w.option(entries, FieldWriter::u64);
        w.bool(leased);
    }
}

fn kind_of_ring(r: &mut FieldReader) -> Result<(Option<u64>, bool), MessageError> {
    if r.is_empty() {
        Ok((None, false))
    } else {
        Ok((r.option("entries", FieldReader::u64)?, r.bool("leased")?))
    }
}

/// Writes the layout of a ring, and whether the ring is leased.
pub(super) fn put_ring(w: &mut FieldWriter<'_>, layout: RingLayout, leased: bool) {
    w.u64(layout.capacity);
    put_kind_of_ring(w, layout.entries, leased);
}

pub(super) fn ring(r: &mut FieldReader) -> Result<(RingLayout, bool), MessageError> {
    let capacity = r.u64()?;
    let (entries, leased) = kind_of_ring(r)?;
    Ok((RingLayout { capacity, entries }, leased))
}

pub(super) fn put_lease_start(w: &mut FieldWriter<'_>, start: &LeaseStart) {
    let LeaseStart { tail, head, newest, max_chunk, pages } = start;
    for value in [tail.0, tail.1, head.0, head.1, *newest, *max_chunk] {
        w.u64(value);
    }
    w.u32(*pages);
}

pub(super) fn lease_start(r: &mut FieldReader) -> Result<LeaseStart, MessageError> {
    Ok(LeaseStart {
        tail: (r.u64()?, r.u64()?),
        head: (r.u64()?, r.u64()?),
        newest: r.u64()?,
        max_chunk: r.u64()?,
        pages: r.u32()?,
    })
}

pub(super) fn shm_start(r: &mut FieldReader) -> Result<ShmStart, MessageError> {
    let capacity = r.u64()?;
    let mut start = ShmStart {
        layout: RingLayout { capacity, entries: None },
        channel_buffer_size: r.u64()?,
        seq: r.u64()?,
        offset: r.u64()?,
        missing: r.option("missing", FieldReader::u64)?,
        policy: policy(r)?,
        until: until(r)?,
        head: r.u64()?,
        deaths_before: r.u64()?,
        live: r.bool("live")?,
        leased: false,
    };
    (start.layout.entries, start.leased) = kind_of_ring(r)?;
    Ok(start)
}
