//! Engine operations, generated from a few bytes each, so that a short input makes a long sequence.

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use pfs_stream::{ReadOptions, SlowPolicy, Start, Until};

/// One step. The number of a stream selects its name. Other numbers select a writer, a reader or a
/// wait, modulo how many there are. Some steps create what they need; the others do nothing then.
#[derive(Debug)]
pub enum Operation {
    Create { stream: u8, ring_buffer_size: u16, channel_buffer_size: u16 },
    Close { stream: u8, failed: bool },
    Remove { stream: u8 },
    OpenWriter { stream: u8 },
    Append { writer: u8, len: u16, how: How },
    AppendBytes { writer: u8, count: u16 },
    Wake { writer: u8 },
    Finish { writer: u8, close: bool },
    Fail { writer: u8, close: bool },
    Die { writer: u8 },
    Join { stream: u8, options: Options },
    Wait { stream: u8, options: Options },
    Read { reader: u8, max_bytes: u16, max_piece: u16, sleep: bool },
    Drain { reader: u8 },
    Leave { reader: u8 },
    StopWaiting { wait: u8 },
}

/// How to append.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Gives up at once instead of waiting.
    Try,
    /// Begins to wait, then is cancelled.
    Cancelled,
    /// Does not wake sleeping readers.
    Push,
}

/// Options of a reader.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    start: Start,
    /// True if the start offset is counted back from head.
    below_head: bool,
    policy: SlowPolicy,
    until: Until,
}

impl Options {
    pub const DEFAULT: Self = Self {
        start: Start::Oldest,
        below_head: false,
        policy: SlowPolicy::Drop,
        until: Until::Closed,
    };

    pub fn resolve(self, head: u64) -> ReadOptions {
        let start = match self.start {
            Start::Offset(offset) if self.below_head => Start::Offset(head.saturating_sub(offset)),
            start => start,
        };
        ReadOptions { start, policy: self.policy, until: self.until, ..Default::default() }
    }
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Frequent steps have several numbers.
        Ok(match u.int_in_range(0..=24)? {
            0 => Self::Create {
                stream: u.arbitrary()?,
                ring_buffer_size: u.arbitrary()?,
                channel_buffer_size: u.arbitrary()?,
            },
            1 => Self::Close { stream: u.arbitrary()?, failed: u.arbitrary()? },
            2 => Self::Remove { stream: u.arbitrary()? },
            3 => Self::OpenWriter { stream: u.arbitrary()? },
            4..=8 => Self::Append { writer: u.arbitrary()?, len: len(u)?, how: how(u)? },
            9 => Self::AppendBytes { writer: u.arbitrary()?, count: count(u)? },
            10 => Self::Wake { writer: u.arbitrary()? },
            11 => Self::Finish { writer: u.arbitrary()?, close: u.arbitrary()? },
            12 => Self::Die { writer: u.arbitrary()? },
            13..=14 => Self::Join { stream: u.arbitrary()?, options: options(u)? },
            15 => Self::Wait { stream: u.arbitrary()?, options: options(u)? },
            16..=19 => Self::Read {
                reader: u.arbitrary()?,
                max_bytes: len(u)?,
                max_piece: len(u)?,
                sleep: u.arbitrary()?,
            },
            20..=21 => Self::Drain { reader: u.arbitrary()? },
            22 => Self::Leave { reader: u.arbitrary()? },
            23 => Self::Fail { writer: u.arbitrary()?, close: u.arbitrary()? },
            _ => Self::StopWaiting { wait: u.arbitrary()? },
        })
    }
}

/// A length, from one byte if it is below 128, else from two.
fn len(u: &mut Unstructured<'_>) -> Result<u16> {
    Ok(match u.arbitrary::<u8>()? {
        byte @ 0..=127 => u16::from(byte),
        byte => u16::from(byte & 0x0f) << 8 | u16::from(u.arbitrary::<u8>()?),
    })
}

/// A count; in one of 16 cases more than the smallest index has entries.
fn count(u: &mut Unstructured<'_>) -> Result<u16> {
    Ok(match u.arbitrary::<u8>()? {
        byte @ 0..=239 => u16::from(byte) / 8,
        _ => 1100,
    })
}

fn how(u: &mut Unstructured<'_>) -> Result<How> {
    Ok(*u.choose(&[How::Try, How::Cancelled, How::Push])?)
}

fn options(u: &mut Unstructured<'_>) -> Result<Options> {
    let start = match u.int_in_range(0..=4)? {
        0 => Start::Oldest,
        1 => Start::New,
        2 => Start::Tail(u.arbitrary::<u16>()?.into()),
        3 => Start::Since(std::time::Duration::from_micros(u.arbitrary::<u16>()?.into())),
        _ => Start::Offset(u.arbitrary::<u16>()?.into()),
    };
    Ok(Options {
        start,
        below_head: u.arbitrary()?,
        policy: *u.choose(&[SlowPolicy::Drop, SlowPolicy::Block, SlowPolicy::Disconnect])?,
        until: *u.choose(&[Until::Closed, Until::CaughtUp, Until::WritersGone])?,
    })
}
