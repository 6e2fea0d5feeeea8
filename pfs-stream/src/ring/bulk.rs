//! Bulk copy of words that other threads or processes may read or write at the same moment. Faster
//! than a copy word by word.
//!
//! Gain: 38 % in chunks of 64 KiB to 16 readers, docs/bench/optimisations.md
//!
//! # Why the `unsafe` here is sound
//!
//! The compiler does not merge relaxed atomic accesses into wider ones, so a loop of them moves
//! eight bytes per instruction. On a processor that we know, [`blocks`] moves sixteen bytes at a
//! time, in assembly. For the rest of the program, `blocks` is equivalent to the loop. It reads and
//! writes only the bytes of its two ranges, which its callers have checked, each byte once and in
//! no promised order. The fences around it order it as they order relaxed accesses, for two
//! reasons: the compiler may move no memory access across the assembly, and on this processor plain
//! loads and stores of any width are ordered as acquire and release. A word that another party is
//! writing may be read half old and half new. Each reader of shared memory either discards such
//! copies or does not care.

use std::mem::MaybeUninit;

use super::layout::WORD;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Bytes that are copied at a time.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
const BLOCK: usize = 64;

/// Copies as many whole blocks as fit into `len` bytes. Returns the number of bytes copied.
///
/// # Safety
///
/// `from` is valid for reads of `len` bytes, `to` is valid for writes of `len` bytes, and they do
/// not overlap. If others access them meanwhile, they do so through atomics.
#[cfg(all(target_arch = "x86_64", not(any(miri, loom))))]
#[inline]
unsafe fn blocks(from: *const u8, to: *mut u8, len: usize) -> usize {
    let count = len / BLOCK;
    if count > 0 {
        // SAFETY: touches `count * BLOCK <= len` bytes at both places, and the registers and flags
        // that the assembly names.
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

/// On other processors everything is copied word by word.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, loom)))))]
unsafe fn blocks(_from: *const u8, _to: *mut u8, _len: usize) -> usize {
    0
}

/// Copies words to plain memory of the same size.
pub(super) fn read(from: &[AtomicU64], to: &mut [MaybeUninit<u8>]) {
    assert_eq!(size_of_val(from), to.len());
    // SAFETY: both have the length asserted above, and `&mut` is exclusive memory.
    let done = unsafe { blocks(from.as_ptr().cast(), to.as_mut_ptr().cast(), to.len()) };
    let to = to[done..].as_chunks_mut::<WORD>().0;
    for (to, from) in to.iter_mut().zip(&from[done / WORD..]) {
        to.write_copy_of_slice(&from.load(Relaxed).to_ne_bytes());
    }
}

/// Copies plain memory to words of the same size. There is one writer of `to` at a time.
pub(super) fn write(from: &[u8], to: &[AtomicU64]) {
    assert_eq!(from.len(), size_of_val(to));
    // SAFETY: both have the length asserted above. A shared reference suffices to write atomics.
    let done = unsafe { blocks(from.as_ptr(), to.as_ptr().cast_mut().cast(), from.len()) };
    for (to, from) in to[done / WORD..].iter().zip(from[done..].as_chunks::<WORD>().0) {
        to.store(u64::from_ne_bytes(*from), Relaxed);
    }
}

/// Fills `to` from byte `skip` of the first word of `from` on. The two memories do not overlap, and
/// there is one writer of `to` at a time.
pub(super) fn copy(from: &[AtomicU64], skip: usize, to: &[AtomicU64]) {
    let bytes = size_of_val(to);
    if bytes == 0 {
        return;
    }
    assert!(skip < WORD && from.len() >= to.len() + usize::from(skip > 0));
    // SAFETY: `from` and `to` have the lengths asserted above; `from` has one word more if bytes
    // are skipped.
    let done = unsafe {
        blocks(from.as_ptr().cast::<u8>().add(skip), to.as_ptr().cast_mut().cast(), bytes)
    };
    let (from, to) = (&from[done / WORD..], &to[done / WORD..]);
    if skip == 0 {
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Relaxed), Relaxed);
        }
    } else if !to.is_empty() {
        // Each word consists of the end of one word and the beginning of the next.
        let shift = 8 * skip;
        let mut low = u64::from_le(from[0].load(Relaxed));
        for (to, from) in to.iter().zip(&from[1..]) {
            let high = u64::from_le(from.load(Relaxed));
            to.store(u64::to_le(low >> shift | high << (64 - shift)), Relaxed);
            low = high;
        }
    }
}
