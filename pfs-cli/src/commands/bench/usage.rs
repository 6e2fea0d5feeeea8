//! What a process uses of the machine, as Linux shows it.

use std::{fs, time::Duration};

use pfs_measure::process::cpu_time;

/// The stats of a process up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time of all its threads.
    pub(super) cpu: Duration,
    /// The most memory that it ever had, in bytes, its rings included.
    pub(super) peak_rss: u64,
}

impl Usage {
    /// Of the daemon with this process id. `None` where the system does not show it, does not show
    /// it to us, or shows something else under this number, as in a container.
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
    fn the_most_memory_is_found_among_the_stats_of_a_process() {
        let status = "Name:\tpfsd\nVmPeak:\t  9999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(peak_rss(status), Some(2 * 1024 * 1024));
        assert_eq!(peak_rss("VmRSS:\t  1024 kB\n"), None);
    }

    #[test]
    fn another_process_under_that_number_is_not_the_daemon() {
        assert_eq!(Usage::from_pid(std::process::id()), None);
    }
}
