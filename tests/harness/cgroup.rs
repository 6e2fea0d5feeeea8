//! Memory control group (cgroup) for one test, version 1 or 2.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{eventually, skip};

/// Control group with a memory limit for all its processes together. At the limit, the kernel kills
/// one of them. Dropping a `Cgroup` removes the group, once its processes have ended.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Creates a group that is limited to `bytes`. Returns `None`, and reports the test as skipped,
    /// if this process may not create control groups.
    pub fn with_memory(bytes: u64) -> Option<Self> {
        match Self::make(bytes) {
            Ok(made) => Some(made),
            Err(why) => {
                skip(&format!(
                    "this process may make no control group with a limit on memory: {why}"
                ));
                None
            }
        }
    }

    fn make(bytes: u64) -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (mounted, limit) = hierarchy().ok_or("none is mounted that limits memory")?;
        let name = format!("pfs-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = mounted.join(name);
        let said = |what: &str, error: io::Error| format!("{what}: {error}");
        fs::create_dir(&folder)
            .map_err(|error| said(&format!("mkdir {}", folder.display()), error))?;
        let made = Self { folder };
        fs::write(made.folder.join(limit), bytes.to_string())
            .map_err(|error| said(limit, error))?;
        Ok(made)
    }

    /// Returns the path of `cgroup.procs`: writing a process id there moves that process into
    /// the group.
    pub(crate) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Returns how many processes of the group the OOM killer has killed.
    pub fn kills(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).ok();
        let lines = read("memory.events").or_else(|| read("memory.oom_control"));
        let lines = lines.expect("a kernel since 4.13 counts them");
        let kills = lines.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.parse().ok()).expect("a number")
    }

    /// Returns the memory that is charged to the group now, in bytes.
    pub fn memory(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).ok();
        let used = read("memory.current").or_else(|| read("memory.usage_in_bytes"));
        used.and_then(|used| used.trim().parse().ok()).expect("a number")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let is_removed = || fs::remove_dir(&self.folder).is_ok();
        if !is_removed() && !std::thread::panicking() {
            // A process may leave its group a moment after its parent has reaped it.
            eventually("the control group can be removed", is_removed);
        }
    }
}

/// Finds the mounted hierarchy that can limit memory. Returns its folder and the name of the
/// limit file.
fn hierarchy() -> Option<(PathBuf, &'static str)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let folder = Path::new(mount.split(' ').nth(4)?);
        let kind = filesystem.split(' ').next()?;
        let offers = |file: &str| {
            let controllers = fs::read_to_string(folder.join(file)).unwrap_or_default();
            controllers.split_whitespace().any(|controller| controller == "memory")
        };
        match kind {
            "cgroup2" if offers("cgroup.subtree_control") => {
                Some((folder.to_owned(), "memory.max"))
            }
            "cgroup" if folder.join("memory.limit_in_bytes").exists() => {
                Some((folder.to_owned(), "memory.limit_in_bytes"))
            }
            _ => None,
        }
    })
}
