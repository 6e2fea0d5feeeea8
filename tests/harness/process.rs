//! Inspecting and controlling processes through the kernel: signals, limits, memory, liveness.

pub use rustix::process::Signal;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::eventually;

/// Sends a signal to a process. Panics if there is no such process.
pub fn kill(pid: u32, signal: Signal) {
    kill_process(id(pid), signal)
        .unwrap_or_else(|e| panic!("signal {signal:?} to process {pid}: {e}"));
}

/// Limits the size of files that a process writes or creates from now on, memory files included:
/// `ulimit -f`.
pub fn limit_file_size(pid: u32, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: None };
    prlimit(Some(id(pid)), Resource::Fsize, limit).expect("a process of ours");
}

/// Raises the limit on open files to the maximum, for this process and for daemons that it starts
/// later: each connection is an open file. Returns the limit.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to the maximum");
    limit.maximum.unwrap_or(u64::MAX)
}

/// Counts the sockets and memory files that a process has open: the descriptors that exist because
/// of clients. A daemon opens other files too, lazily, perhaps after its first reply.
pub fn sockets_and_memory(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    // A descriptor that was closed meanwhile cannot be read.
    let names = open.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok());
    names
        .filter(|name| {
            ["socket:", "/memfd:"].iter().any(|kind| name.to_string_lossy().starts_with(kind))
        })
        .count()
}

fn id(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id")
}

/// Restricts this thread, and all threads and processes that it starts later, to one processor.
pub fn on_one_processor() {
    let mut ours = sched_getaffinity(None).expect("this thread runs somewhere");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| ours.is_set(*cpu)).expect("it runs somewhere");
    ours.clear();
    ours.set(first);
    sched_setaffinity(None, &ours).expect("it ran there before");
}

/// Returns the private memory of a process, in bytes. Memory that it shares with the daemon, such
/// as the ring buffer of an shm reader, counts for the daemon.
pub fn own(pid: u32) -> u64 {
    status_number(pid, "RssAnon:")
}

/// Returns the resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    status_number(pid, "VmRSS:")
}

/// Returns the resident shared memory of a process, such as ring buffers, in bytes.
pub fn shared(pid: u32) -> u64 {
    status_number(pid, "RssShmem:")
}

fn status_number(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).expect("the process is no zombie");
    let kib = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("memory is in kB") * 1024
}

/// Returns true if a process runs. A zombie does not.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Returns true if all threads of a process are stopped by a signal.
pub(crate) fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    threads.map(|thread| thread.expect("a thread").path().join("stat")).all(|stat| {
        // A thread that has just ended does not run either.
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.is_empty() || rest.starts_with(" T"))
    })
}

/// Returns true if a process has mapped memory that one of our daemons created.
pub fn shares_memory(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/maps"))
        .expect("the process runs")
        .contains("memfd:pfs-")
}

/// Returns how often the threads of a process were scheduled so far. While this number stays the
/// same, the process uses no processor time.
pub fn wake_ups(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    threads.map(|thread| runs(&thread.expect("a thread").path().join("schedstat"))).sum()
}

/// Waits until processes have been idle for `rest`. The number beside each process is how many of
/// its threads may wake up once a second, as shm readers do to check their ring buffer. Any other
/// wake-up restarts the wait.
#[track_caller]
pub fn eventually_rest(processes: &[(u32, u64)], rest: Duration) {
    let all_wake_ups = || processes.iter().map(|(pid, _)| wake_ups(*pid)).collect::<Vec<_>>();
    let (mut before, mut since) = (all_wake_ups(), Instant::now());
    assert!(before.iter().all(|wake_ups| *wake_ups > 0), "the stats are wrong: {before:?}");
    eventually("all have rested for long enough", || {
        let now = all_wake_ups();
        let looks = since.elapsed().as_secs() + 1;
        let mut processes = processes.iter().zip(now.iter().zip(&before));
        if !processes.all(|((_, sleepers), (now, before))| now - before <= sleepers * looks) {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() >= rest
    });
}

fn runs(schedstat: &Path) -> u64 {
    // A thread that has just ended does not run again.
    let stats = std::fs::read_to_string(schedstat).unwrap_or_default();
    stats.split_whitespace().nth(2).map_or(0, |runs| runs.parse().expect("a number"))
}
