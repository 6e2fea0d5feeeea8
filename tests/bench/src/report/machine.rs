//! Machine and program versions of a measurement.

use crate::peers::{
    Peer,
    server::{Tools, contents},
};

/// The machine, and the versions of the measured programs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Processor model.
    pub processor: String,
    /// Number of processors.
    pub processors: usize,
    /// Size of the last-level cache, as the kernel reports it.
    pub cache: String,
    /// Kernel version.
    pub kernel: String,
    /// Load average over one minute at the start of the measurement.
    pub load: String,
    /// Programs and their versions.
    pub versions: Vec<String>,
    /// Number of measurements of each value.
    pub rounds: usize,
    /// Duration of each measurement, in seconds.
    pub seconds: f64,
}

impl Machine {
    /// Describes this machine and the programs measured on it.
    pub fn here(tools: &Tools, peers: &[Peer], rounds: usize, seconds: f64) -> Self {
        let mut versions: Vec<String> = Vec::new();
        let ours = |peer: Peer| peer.is_ceiling() || matches!(peer, Peer::Baseline | Peer::File);
        for peer in peers.iter().filter(|peer| !ours(**peer)) {
            versions.extend(tools.version(*peer).filter(|version| !versions.contains(version)));
        }
        Self { versions, seconds, ..Self::local(rounds) }
    }

    /// Describes this machine alone.
    pub fn local(rounds: usize) -> Self {
        let cpuinfo = contents("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cache = |index: u32| {
            let size = contents(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size"));
            (!size.is_empty()).then(|| size.trim().to_owned())
        };
        Self {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            cache: (0..5).rev().find_map(cache).unwrap_or_default(),
            kernel: contents("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: contents("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            rounds,
            ..Self::default()
        }
    }

    /// Formats the description as one line.
    pub fn describe(&self) -> String {
        format!(
            "{} cores of {}, last-level cache {}, Linux {}, load average {} at the start",
            self.processors, self.processor, self.cache, self.kernel, self.load
        )
    }
}
