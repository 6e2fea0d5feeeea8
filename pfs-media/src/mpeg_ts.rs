//! MPEG transport stream parser (ISO/IEC 13818-1).
//!
//! The header is the program association table and the program map table, as the packets that
//! carried them. A sync point is a packet that begins a video access unit that can be decoded
//! without earlier ones: the packet has the random access indicator, or its payload begins with a
//! key frame. In a stream without video, each packet that begins a payload unit of the first stream
//! is a sync point.

use bytes::Bytes;
use mpeg2ts_reader::{
    StreamType,
    mpegts_crc::sum32,
    packet::{Packet, Pid},
    psi::{pat::PatSection, pmt::PmtSection},
};

use crate::{
    annex_b::{Codec, has_key_frame},
    bits::be,
    indexer::{Mark, Parse, Parsed, Step},
};

const SIZE: usize = Packet::SIZE;

/// Number of consecutive packets that must begin with a sync byte before a sync byte is accepted.
const SYNC_PACKETS: usize = 3;

/// Number of bytes from the first to the last sync byte of these packets.
const SYNC_BYTES: usize = (SYNC_PACKETS - 1) * SIZE + 1;

/// Number of bytes that are searched for sync bytes before the stream counts as malformed.
const MAX_SEARCHED: u64 = 1024 * 1024;

/// Maximum number of packets of a table, which has at most 1,021 bytes.
const MAX_TABLE_PACKETS: usize = 8;

const PAT_PID: u16 = 0;

#[derive(Default)]
pub(crate) struct MpegTs {
    is_synced: bool,
    searched: u64,
    pat: Table,
    pmt: Table,
    pmt_pid: Option<Pid>,
    /// Elementary stream whose access units can be sync points, once a program map table has named
    /// the stream.
    main: Option<(Pid, Kind)>,
    /// Header that was last reported.
    header: Vec<u8>,
}

/// How sync points are found in an elementary stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Video(Option<Codec>),
    Audio,
}

/// Table that is arriving: the packets of its section, and the section's bytes.
#[derive(Default)]
struct Table {
    packets: Vec<u8>,
    section: Vec<u8>,
}

impl Table {
    /// Adds a packet. Returns true when the packet completes a section whose checksum is correct.
    fn take(&mut self, packet: &Packet<'_>) -> bool {
        let Some(payload) = packet.payload() else { return false };
        if packet.payload_unit_start_indicator() {
            let pointer = usize::from(payload.first().copied().unwrap_or_default());
            self.packets.clear();
            self.section.clear();
            let Some(section) = payload.get(pointer + 1..) else { return false };
            self.section.extend_from_slice(section);
        } else if self.packets.is_empty() || self.packets.len() >= MAX_TABLE_PACKETS * SIZE {
            return false;
        } else {
            self.section.extend_from_slice(payload);
        }
        self.packets.extend_from_slice(packet.buffer());
        let Some(len) = be::<2>(&self.section, 1) else { return false };
        let len = 3 + (len & 0x0FFF) as usize;
        if len < 12 || self.section.len() < len {
            return false;
        }
        self.section.truncate(len);
        sum32(&self.section) == 0
    }

    /// Contents of the section, without its header and checksum.
    fn body(&self) -> &[u8] {
        self.section.get(8..self.section.len().saturating_sub(4)).unwrap_or_default()
    }
}

impl MpegTs {
    fn packet(&mut self, at: u64, packet: &Packet<'_>, marks: &mut Vec<Mark>) {
        let pid = packet.pid();
        if u16::from(pid) == PAT_PID {
            if self.pat.take(packet) {
                let programs = PatSection::new(self.pat.body());
                let program = programs.programs().find(|it| {
                    matches!(it, mpeg2ts_reader::psi::pat::ProgramDescriptor::Program { .. })
                });
                self.pmt_pid = program.map(|program| program.pid());
            }
        } else if Some(pid) == self.pmt_pid {
            if self.pmt.take(packet) {
                self.take_map(marks);
            }
        } else if let Some((main, kind)) = self.main
            && pid == main
            && packet.payload_unit_start_indicator()
        {
            let is_random_access =
                packet.adaptation_field().is_some_and(|field| field.random_access_indicator());
            let is_key_frame = match kind {
                Kind::Audio => true,
                Kind::Video(codec) => codec.is_some_and(|codec| {
                    has_key_frame(codec, packet.payload().unwrap_or_default())
                }),
            };
            if is_random_access || is_key_frame {
                marks.push(Mark::Sync(at));
            }
        }
    }

    /// Applies the program map table that has just been completed.
    fn take_map(&mut self, marks: &mut Vec<Mark>) {
        let Ok(map) = PmtSection::from_bytes(self.pmt.body()) else { return };
        let streams = || map.streams().map(|it| (it.elementary_pid(), it.stream_type()));
        let video = streams().find_map(|(pid, kind)| video(kind).map(|codec| (pid, codec)));
        self.main = match video {
            Some((pid, codec)) => Some((pid, Kind::Video(codec))),
            None => streams().next().map(|(pid, _)| (pid, Kind::Audio)),
        };
        let mut header = self.pat.packets.clone();
        header.extend_from_slice(&self.pmt.packets);
        if is_same(&header, &self.header) {
            return;
        }
        marks.push(Mark::Header(Bytes::from(header.clone())));
        self.header = header;
    }
}

/// Codec of a video stream. The inner `None` means that its key frames cannot be recognised, the
/// outer `None` that the stream is not video.
fn video(kind: StreamType) -> Option<Option<Codec>> {
    match kind {
        StreamType::H264 => Some(Some(Codec::H264)),
        StreamType::H265 => Some(Some(Codec::Hevc)),
        StreamType::ISO_11172_VIDEO | StreamType::H262 => Some(Some(Codec::Mpeg2)),
        StreamType::ISO_14496_2_VISUAL | StreamType::CHINESE_VIDEO_STANDARD => Some(None),
        _ => None,
    }
}

/// Whether two runs of packets are equal except for their continuity counters.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let is_counter = |at: usize| at % SIZE == 3;
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .enumerate()
            .all(|(at, (one, other))| is_counter(at) || one == other)
}

impl Parse for MpegTs {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if !self.is_synced {
            if bytes.len() < SYNC_BYTES {
                return Ok(Step::Need(SYNC_BYTES));
            }
            let is_start = |from: &usize| {
                (0..SYNC_PACKETS).all(|n| bytes.get(from + n * SIZE) == Some(&Packet::SYNC_BYTE))
            };
            let last = bytes.len() - SYNC_BYTES + 1;
            let start = (0..last).find(is_start);
            self.is_synced = start.is_some();
            let skipped = start.unwrap_or(last) as u64;
            self.searched = if self.is_synced { 0 } else { self.searched + skipped };
            if self.searched > MAX_SEARCHED {
                return Err(crate::indexer::Fault::Malformed);
            }
            if skipped > 0 {
                return Ok(Step::Skip(skipped));
            }
        }
        if bytes.len() < SIZE {
            return Ok(Step::Need(SIZE));
        }
        let mut used = 0;
        for packet in bytes.chunks_exact(SIZE) {
            let Some(packet) = Packet::try_new(packet) else {
                self.is_synced = false;
                break;
            };
            self.packet(at + used, &packet, marks);
            used += SIZE as u64;
        }
        // If the first packet has no sync byte, search for the next sync byte from its second
        // byte on.
        Ok(Step::Skip(used.max(1)))
    }

    fn resync(&mut self) {
        (self.is_synced, self.searched) = (false, 0);
        (self.pat, self.pmt) = (Table::default(), Table::default());
    }
}
