//! Parser for audio formats that consist of consecutive frames: MP3, ADTS and AC-3.
//!
//! Each frame contains its length, and a decoder can start at any frame. There is no header. The
//! first frame is accepted only if another frame follows it.

use crate::{
    bits::be,
    indexer::{Fault, Mark, Parse, Parsed, Step},
};

/// Function that returns the length of the frame at the beginning of the bytes; `None` if no frame
/// begins there.
pub(crate) type FrameLen = fn(&[u8]) -> Option<usize>;

/// Number of bytes of a frame that contain its length.
const HEADER_BYTES: usize = 7;

/// Number of bytes that are searched for a frame before the stream counts as malformed.
const MAX_SEARCHED: u64 = 1024 * 1024;

pub(crate) struct Frames {
    len: FrameLen,
    /// Whether the next bytes are expected to begin a frame, because a frame ended before them.
    is_synced: bool,
    searched: u64,
}

impl Frames {
    pub(crate) fn mp3() -> Self {
        Self::new(mp3_len)
    }

    pub(crate) fn adts() -> Self {
        Self::new(adts_len)
    }

    pub(crate) fn ac3() -> Self {
        Self::new(ac3_len)
    }

    fn new(len: FrameLen) -> Self {
        Self { len, is_synced: false, searched: 0 }
    }
}

impl Parse for Frames {
    fn step(&mut self, at: u64, bytes: &[u8], marks: &mut Vec<Mark>) -> Parsed {
        if bytes.len() < HEADER_BYTES {
            return Ok(Step::Need(HEADER_BYTES));
        }
        if let Some(len) = (self.len)(bytes) {
            let second = bytes.get(len..).unwrap_or_default();
            if self.is_synced || (second.len() >= HEADER_BYTES && (self.len)(second).is_some()) {
                (self.is_synced, self.searched) = (true, 0);
                marks.push(Mark::Sync(at));
                return Ok(Step::Skip(len as u64));
            }
            if second.len() < HEADER_BYTES {
                return Ok(Step::Need(len + HEADER_BYTES));
            }
        }
        self.is_synced = false;
        let next = (1..=bytes.len() - HEADER_BYTES)
            .find(|at| bytes.get(*at..).is_some_and(|rest| (self.len)(rest).is_some()));
        let skip = next.unwrap_or(bytes.len() - HEADER_BYTES + 1) as u64;
        self.searched += skip;
        if self.searched > MAX_SEARCHED {
            return Err(Fault::Malformed);
        }
        Ok(Step::Skip(skip))
    }

    fn resync(&mut self) {
        (self.is_synced, self.searched) = (false, 0);
    }
}

/// Frame length of MPEG audio: ISO/IEC 11172-3 and 13818-3, and the low rates of MPEG 2.5.
pub(crate) fn mp3_len(bytes: &[u8]) -> Option<usize> {
    const RATES: [[u64; 15]; 5] = [
        [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let header = be::<4>(bytes, 0)?;
    if header >> 21 != 0x7FF {
        return None;
    }
    let (version, layer) = ((header >> 19) & 3, (header >> 17) & 3);
    let (rate, frequency) = ((header >> 12) & 15, (header >> 10) & 3);
    let padding = (header >> 9) & 1;
    if version == 1 || layer == 0 || rate == 0 || rate == 15 || frequency == 3 {
        return None;
    }
    let is_1 = version == 3;
    let table = match (is_1, layer) {
        (true, 3) => 0,
        (true, 2) => 1,
        (true, _) => 2,
        (false, 3) => 3,
        (false, _) => 4,
    };
    let bits = 1000 * RATES.get(table)?.get(rate as usize)?;
    let base = *[44_100, 48_000, 32_000].get(frequency as usize)?;
    let samples_per_second = match version {
        3 => base,
        2 => base / 2,
        _ => base / 4,
    };
    let len = match (layer, is_1) {
        (3, _) => 4 * (12 * bits / samples_per_second + padding),
        (1, false) => 72 * bits / samples_per_second + padding,
        _ => 144 * bits / samples_per_second + padding,
    };
    usize::try_from(len).ok().filter(|len| *len >= HEADER_BYTES)
}

/// Frame length of ADTS: ISO/IEC 13818-7.
pub(crate) fn adts_len(bytes: &[u8]) -> Option<usize> {
    let header = be::<7>(bytes, 0)?;
    let (sync, layer) = (header >> 44, (header >> 41) & 3);
    let (frequency, len) = ((header >> 34) & 15, (header >> 13) & 0x1FFF);
    let is_frame = sync == 0xFFF && layer == 0 && frequency < 13 && len > 7;
    is_frame.then_some(len as usize)
}

/// Frame length of AC-3 and E-AC-3: ETSI TS 102 366.
pub(crate) fn ac3_len(bytes: &[u8]) -> Option<usize> {
    /// Bit rate of each pair of frame size codes, in kilobits per second.
    const RATES: [u64; 19] =
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
    let header = be::<6>(bytes, 0)?;
    if header >> 32 != 0x0B77 {
        return None;
    }
    let version = (header >> 3) & 31;
    if version > 10 {
        // E-AC-3: the field is the number of 16-bit words, minus one.
        return (version <= 16).then_some(2 * (((header >> 16) & 0x7FF) as usize + 1));
    }
    let (frequency, size) = ((header >> 14) & 3, (header >> 8) & 63);
    let rate = *RATES.get(size as usize / 2)?;
    let words = match frequency {
        0 => 2 * rate,
        1 => 320 * rate / 147 + (size & 1),
        2 => 3 * rate,
        _ => return None,
    };
    Some(2 * words as usize)
}
