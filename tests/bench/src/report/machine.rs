//! Where something was measured, and with what.

use crate::peers::{
    Peer,
    server::{Tools, contents},
};

/// The machine, and the versions of what was measured on it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Of the last level, as the kernel says it.
    pub cache: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Processes that ran or wanted to, on average over a minute, when the measurement began.
    pub load: String,
    /// Programs and their versions.
    pub versions: Vec<String>,
    /// How often each value was measured.
    pub rounds: usize,
    /// For how long each, in seconds.
    pub seconds: f64,
}

impl Machine {
    /// This one, and what is measured on it.
    pub fn here(tools: &Tools, peers: &[Peer], rounds: usize, seconds: f64) -> Self {
        let mut versions: Vec<String> = Vec::new();
        let ours = |peer: Peer| peer.is_ceiling() || matches!(peer, Peer::Baseline | Peer::File);
        for peer in peers.iter().filter(|peer| !ours(**peer)) {
            versions.extend(tools.version(*peer).filter(|version| !versions.contains(version)));
        }
        Self { versions, seconds, ..Self::local(rounds) }
    }

    /// This one alone.
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

    /// In a line.
    pub fn describe(&self) -> String {
        format!(
            "{} cores of {}, last-level cache {}, Linux {}, load average {} at the start",
            self.processors, self.processor, self.cache, self.kernel, self.load
        )
    }
}
