//! CPU time and peak memory of the daemon, from Linux's `/proc`.

use std::{fs, time::Duration};

use pfs_measure::process::cpu_time;

/// Resources that a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time of all its threads.
    pub(super) cpu: Duration,
    /// Its largest resident memory so far, in bytes, including its ring buffers.
    pub(super) peak_rss: u64,
}

impl Usage {
    /// Reads the usage of the daemon with this process id. `None` if the system does not show it,
    /// or not to this user, or if the id belongs to another program, as it may in a container.
    pub(super) fn from_pid(pid: u32) -> Option<Self> {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        (file("comm")?.trim_end() == "pfsd").then_some(())?;
        Some(Self { cpu: cpu_time(pid).ok()?, peak_rss: peak_rss(&file("status")?)? })
    }
}

fn peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_parsed_from_the_status_of_a_process() {
        let status = "Name:\tpfsd\nVmPeak:\t  9999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(peak_rss(status), Some(2 * 1024 * 1024));
        assert_eq!(peak_rss("VmRSS:\t  1024 kB\n"), None);
    }

    #[test]
    fn a_process_of_another_program_is_not_the_daemon() {
        assert_eq!(Usage::from_pid(std::process::id()), None);
    }
}
