//! What a process uses of the machine, as Linux shows it.

use std::fs;
use std::time::Duration;

/// The figures of a process up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time of all its threads, to a hundredth of a second.
    pub(super) cpu: Duration,
    /// The most memory that it ever had, in bytes, its rings included.
    pub(super) peak_rss: u64,
}

impl Usage {
    /// Of the daemon with this process id. `None` where the system does not show it, does not show it to us, or
    /// shows something else under this number, as in a container.
    pub(super) fn of_daemon(pid: u32) -> Option<Self> {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        (file("comm")?.trim_end() == "pfsd").then_some(())?;
        Self::parse(&file("stat")?, &file("status")?, rustix::param::clock_ticks_per_second())
    }

    fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Self> {
        // After the name, which may contain anything, comes the third field; the 14th and 15th are wanted.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut times = rest.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = times.next()?.ok()?.checked_add(times.next()?.ok()?)?;
        let cpu = Duration::from_secs_f64(ticks as f64 / ticks_per_second.max(1) as f64);
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(Self { cpu, peak_rss: kib.checked_mul(1024)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b (c) S 1 42 42 0 -1 4194560 983 0 0 0 150 75 0 0 20 0 3 0 1000 2000 300 1844";
    const STATUS: &str = "Name:\tpfsd\nVmPeak:\t  9999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t  1024 kB\n";

    #[test]
    fn the_figures_are_found_behind_any_name() {
        let usage = Usage { cpu: Duration::from_millis(2250), peak_rss: 2 << 20 };
        assert_eq!(Usage::parse(STAT, STATUS, 100), Some(usage));
        assert_eq!(Usage::parse("42 (pfsd) S", STATUS, 100), None);
        assert_eq!(Usage::parse(STAT, "VmRSS:\t  1024 kB\n", 100), None);
    }

    #[test]
    fn another_process_under_that_number_is_not_the_daemon() {
        assert_eq!(Usage::of_daemon(std::process::id()), None);
    }
}
