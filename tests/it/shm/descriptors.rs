//! Access rights of the descriptors that are passed to clients.

use std::{
    fs::File,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use harness::{Daemon, eventually, sockets_and_memory};
use pfs_proto::{ErrorCode, ReadOptions, Reply};
use rustix::{
    fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, ftruncate},
    io::{Errno, pread, pwrite},
    mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap},
};

use super::{S, handed, lease};

/// Opens the same memory through a new descriptor, with the most permissions that are available.
fn reopened(descriptor: BorrowedFd<'_>) -> File {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    File::options().read(true).write(true).open(path).expect("the memory is this user's own")
}

/// Maps a page for writing, or, if `afterwards` is true, maps it for reading and then tries to make
/// it writable.
#[allow(unsafe_code, reason = "there is no safe way to ask for a mapping")]
fn map_writable(file: BorrowedFd<'_>, afterwards: bool) -> Result<(), Errno> {
    const PAGE: usize = 4096;
    let writable = ProtFlags::READ | ProtFlags::WRITE;
    let protection = if afterwards { ProtFlags::READ } else { writable };
    // SAFETY: the mapping is at an address of the kernel's choice, nothing refers to it, and it is
    // unmapped at the end.
    unsafe {
        let address = mmap(std::ptr::null_mut(), PAGE, protection, MapFlags::SHARED, file, 0)?;
        let mapped = mprotect(address, PAGE, MprotectFlags::READ | MprotectFlags::WRITE);
        munmap(address, PAGE).expect("our own mapping");
        mapped
    }
}

#[track_caller]
fn keeps_its_size(file: BorrowedFd<'_>) {
    let size = rustix::fs::fstat(file).unwrap().st_size as u64;
    for other in [0, size - 1, size + 1, 2 * size] {
        assert_eq!(ftruncate(file, other), Err(Errno::PERM), "from {size} to {other} bytes");
    }
    assert_eq!(fallocate(file, FallocateFlags::empty(), size, 4096), Err(Errno::PERM));
    assert_eq!(pwrite(file, b"x", size), Err(Errno::PERM), "a write behind the end");
    // A client cannot seal files that the daemon still needs to write either.
    assert_eq!(fcntl_add_seals(file, SealFlags::WRITE), Err(Errno::PERM));
    assert!(
        fcntl_get_seals(file)
            .unwrap()
            .contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
    );
}

#[test]
fn a_ring_can_be_neither_written_nor_mapped_writable_nor_resized_by_a_reader() {
    let daemon = Daemon::start();
    daemon.append(S, "so far");
    let handed = handed(&daemon, S, ReadOptions::default());
    let own = reopened(handed.ring.as_fd());
    for file in [handed.ring.as_fd(), own.as_fd()] {
        keeps_its_size(file);
        assert_eq!(pwrite(file, b"x", 0), Err(Errno::PERM));
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(file, hole, 0, 4096), Err(Errno::PERM));
        for afterwards in [false, true] {
            let refused = map_writable(file, afterwards).unwrap_err();
            assert!([Errno::PERM, Errno::ACCESS].contains(&refused), "{refused}");
        }
    }
    // The descriptor is the ring buffer, and can be read.
    let size = rustix::fs::fstat(&handed.ring).unwrap().st_size as usize;
    let mut all = vec![0; size];
    assert_eq!(pread(&handed.ring, &mut all[..], 0), Ok(size));
    assert!(
        size as u64 >= handed.start.layout.capacity
            && all.windows(6).any(|bytes| bytes == b"so far")
    );
}

#[test]
fn pages_can_be_written_but_not_resized() {
    let daemon = Daemon::start();
    daemon.create(S);
    let handed = handed(&daemon, S, ReadOptions::default());
    keeps_its_size(handed.page.as_fd());
    assert_eq!(map_writable(handed.page.as_fd(), false), Ok(()));
}

#[test]
fn an_shm_client_occupies_one_descriptor_of_the_daemon() {
    const CLIENTS: usize = 10;
    let daemon = Daemon::start();
    daemon.create(S);
    daemon.has_no_other_connection();
    let open = || sockets_and_memory(daemon.pid());
    // The first reader moves the stream to a ring buffer with a descriptor. A connection that is no
    // longer counted may stay open for a moment. The count may thus be off by one, which still
    // distinguishes one descriptor per client from two.
    let before = open() + 1;
    let readers: Vec<_> =
        (0..CLIENTS).map(|_| handed(&daemon, S, ReadOptions::default())).collect();
    // The daemon closes a passed descriptor once the client has confirmed its arrival.
    eventually("readers occupy one each", || open() <= before + CLIENTS);
    let writers: Vec<_> =
        (0..CLIENTS).map(|_| lease::writing(daemon.wire().greeted_to_hold(), S)).collect();
    eventually("writers occupy one each", || open() <= before + 2 * CLIENTS);
    drop((readers, writers));
    eventually("they are forgotten", || open() <= before);
}

#[test]
fn a_client_that_keeps_a_removed_stream_is_hung_up_on_and_the_memory_is_counted_until_then() {
    let daemon = Daemon::with_config("[limits]\nmax_memory = \"16MB\"\n");
    let mut kept = Vec::new();
    // More than the limit allows at a time.
    for _ in 0..3 {
        daemon.append(S, "x");
        let mut handed = handed(&daemon, S, ReadOptions::default());
        daemon.remove(S);
        let told = handed.wire.reply();
        assert!(matches!(told, Some(Reply::Error { code: ErrorCode::Removed, .. })), "{told:?}");
        assert_eq!(handed.wire.reply(), None);
        kept.push(handed);
    }
}
