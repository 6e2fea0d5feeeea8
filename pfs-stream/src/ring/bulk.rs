//! Copies of many words that others may read or write at the same moment, faster than word by word.
//!
//! Gain: 38 % in chunks of 64 KiB to 16 readers, docs/bench/optimisations.md
//!
//! # Why the `unsafe` here is sound
//!
//! The compiler does not join relaxed atomic accesses to wider ones, so that a loop of them moves
//! eight bytes an instruction. Where we know the processor, [`blocks`] moves sixteen at a time, in
//! assembly. To the rest of the program it is such a loop: it reads and writes just the bytes of
//! its two ranges, which its callers have checked, each once and in no promised order, and the
//! fences around it order it as they order relaxed accesses, because the compiler may move no
//! access to memory across it, and because on this processor plain loads and stores of any width
//! are ordered as acquire and release. A word of which another party writes half meanwhile may come
//! out in halves; whoever reads shared memory either throws such copies away or does not care.

use std::mem::MaybeUninit;

use super::layout::WORD;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// How much is copied at a time.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
const BLOCK: usize = 64;

/// Copies as many whole blocks as `len` bytes have; returns how many bytes they were.
///
/// # Safety
///
/// `from` is valid for reads of `len` bytes, `to` for writes, and they do not overlap. If others
/// access them meanwhile, they do so through atomics.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline]
unsafe fn blocks(from: *const u8, to: *mut u8, len: usize) -> usize {
    let count = len / BLOCK;
    if count > 0 {
        // SAFETY: touches `count * BLOCK <= len` bytes at both places, and the registers and flags
        // that it names.
        unsafe {
            std::arch::asm!(
                "2:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + 32], {c}",
                "movups [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "dec {count}",
                "jnz 2b",
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                count = inout(reg) count => _,
                options(nostack),
            );
        }
    }
    count * BLOCK
}

/// Elsewhere everything is copied word by word.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
unsafe fn blocks(_from: *const u8, _to: *mut u8, _len: usize) -> usize {
    0
}

/// Copies words to plain memory of the same size, all of it.
pub(super) fn read(from: &[AtomicU64], to: &mut [MaybeUninit<u8>]) {
    assert_eq!(size_of_val(from), to.len());
    // SAFETY: both are as long as is said here, and `&mut` is nobody else's memory.
    let done = unsafe { blocks(from.as_ptr().cast(), to.as_mut_ptr().cast(), to.len()) };
    let to = to[done..].as_chunks_mut::<WORD>().0;
    for (to, from) in to.iter_mut().zip(&from[done / WORD..]) {
        to.write_copy_of_slice(&from.load(Relaxed).to_ne_bytes());
    }
}

/// Copies plain memory to words of the same size. There is one writer of `to` at a time.
pub(super) fn write(from: &[u8], to: &[AtomicU64]) {
    assert_eq!(from.len(), size_of_val(to));
    // SAFETY: both are as long as is said here. Atomics may be written through a shared reference.
    let done = unsafe { blocks(from.as_ptr(), to.as_ptr().cast_mut().cast(), from.len()) };
    for (to, from) in to[done / WORD..].iter().zip(from[done..].as_chunks::<WORD>().0) {
        to.store(u64::from_ne_bytes(*from), Relaxed);
    }
}

/// Fills `to` with what is in `from`, other memory, from byte `skip` of its first word on. There is
/// one writer of `to` at a time.
pub(super) fn copy(from: &[AtomicU64], skip: usize, to: &[AtomicU64]) {
    let bytes = size_of_val(to);
    if bytes == 0 {
        return;
    }
    assert!(skip < WORD && from.len() >= to.len() + usize::from(skip > 0));
    // SAFETY: as long as `to` and `skip` say, as just checked; `from` goes on for a word more if
    // bytes are skipped.
    let done = unsafe {
        blocks(from.as_ptr().cast::<u8>().add(skip), to.as_ptr().cast_mut().cast(), bytes)
    };
    let (from, to) = (&from[done / WORD..], &to[done / WORD..]);
    if skip == 0 {
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Relaxed), Relaxed);
        }
    } else if !to.is_empty() {
        // Each word is made of the end of one and the beginning of the next.
        let shift = 8 * skip;
        let mut low = u64::from_le(from[0].load(Relaxed));
        for (to, from) in to.iter().zip(&from[1..]) {
            let high = u64::from_le(from.load(Relaxed));
            to.store(u64::to_le(low >> shift | high << (64 - shift)), Relaxed);
            low = high;
        }
    }
}
