//! Test data: pseudo-random bytes from a seed, and digests to compare them.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::Gap;

/// Returns `len` pseudo-random bytes (xorshift64*). The same `seed` gives the same bytes, and they
/// never repeat in practice.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file of `len` bytes of noise. Each mebibyte has its own seed.
pub fn noise_file(path: &Path, seed: u64, len: u64) {
    const PIECE: u64 = 1024 * 1024;
    let mut file = BufWriter::new(File::create(path).expect("a file in the test's own folder"));
    let mut done = 0;
    while done < len {
        let piece = PIECE.min(len - done);
        file.write_all(&noise(seed ^ done, piece as usize)).expect("room on the disk");
        done += piece;
    }
    file.flush().expect("room on the disk");
}

/// Length and SHA-256 of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Number of bytes.
    pub len: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Returns the digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    digest_of_stream(bytes)
}

/// Returns the digest of all bytes that `source` delivers until its end.
pub fn digest_of_stream(mut source: impl Read) -> Digest {
    let mut hash = Hash::default();
    hash.take(&mut source, u64::MAX);
    hash.finish()
}

/// Returns the digest of a file from offset `start` to its end, without the ranges in `gaps`.
pub fn digest_kept(path: &Path, start: u64, gaps: &[Gap]) -> Digest {
    let mut file = BufReader::new(File::open(path).expect("the test's own file"));
    let mut hash = Hash::default();
    let mut position = start;
    for gap in gaps {
        file.seek(SeekFrom::Start(position)).expect("a seekable file");
        hash.take(&mut file, gap.from - position);
        position = gap.to;
    }
    file.seek(SeekFrom::Start(position)).expect("a seekable file");
    hash.take(&mut file, u64::MAX);
    hash.finish()
}

#[derive(Default)]
struct Hash {
    sha256: Sha256,
    len: u64,
}

impl Hash {
    fn take(&mut self, source: &mut impl Read, mut left: u64) {
        let mut piece = vec![0; 1 << 18];
        while left > 0 {
            let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = source.read(&mut piece[..most]).expect("what is compared can be read");
            if got == 0 {
                return;
            }
            self.sha256.update(&piece[..got]);
            self.len += got as u64;
            left -= got as u64;
        }
    }

    fn finish(self) -> Digest {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Digest { len: self.len, sha256 }
    }
}
