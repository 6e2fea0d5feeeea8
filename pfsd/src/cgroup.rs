//! Memory limit of this process's control group (cgroup), version 1 or 2. The kernel kills
//! processes of a container or a systemd unit that exceeds the limit.
//!
//! `/proc/self/cgroup` names the group in each hierarchy, `/proc/self/mountinfo` the mount point of
//! the hierarchy. The limits of parent groups apply too, as far up as the hierarchy is mounted.

use std::{fs, path::Path};

/// Returns the smallest memory limit of this process's control group and its parents, in bytes, or
/// `None` if there is no limit or no control groups are mounted.
pub(crate) fn memory_limit() -> Option<u64> {
    let read = |file| fs::read_to_string(file).ok();
    smallest(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// The version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }
}

/// A mounted hierarchy that may limit memory.
#[derive(Debug)]
struct Hierarchy<'a> {
    version: Version,
    /// The group that is mounted at `mount_point`.
    root: &'a Path,
    mount_point: &'a Path,
}

fn smallest(groups: &str, mounts: &str) -> Option<u64> {
    let hierarchies = mounts.lines().filter_map(hierarchy);
    hierarchies.filter_map(|found| limit_within(&found, group(groups, found.version)?)).min()
}

/// Parses a line of `mountinfo`: `36 35 0:31 ROOT MOUNT_POINT OPTIONS... - TYPE SOURCE OPTIONS`.
fn hierarchy(line: &str) -> Option<Hierarchy<'_>> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3).map(Path::new);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let version = match filesystem.next()? {
        "cgroup2" => Version::Two,
        "cgroup" if filesystem.nth(1)?.split(',').any(|option| option == "memory") => Version::One,
        _ => return None,
    };
    Some(Hierarchy { version, root, mount_point })
}

/// Finds the group in lines of the form `NUMBER:CONTROLLERS:GROUP`. The controllers are empty in
/// version 2.
fn group(groups: &str, version: Version) -> Option<&Path> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let fits = match version {
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
            Version::Two => controllers.is_empty(),
        };
        fits.then_some(Path::new(group))
    })
}

fn limit_within(hierarchy: &Hierarchy<'_>, group: &Path) -> Option<u64> {
    let Hierarchy { version, root, mount_point } = hierarchy;
    // If the group is not below the mounted one, only the mounted group is visible.
    let folder = group
        .strip_prefix(root)
        .map_or_else(|_| mount_point.to_path_buf(), |below| mount_point.join(below));
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(mount_point));
    // Version 2 writes the word `max` for no limit.
    folders
        .filter_map(|folder| {
            fs::read_to_string(folder.join(version.limit_file())).ok()?.trim().parse().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cgroup hierarchies of a system that uses both versions.
    struct System {
        folder: tempfile::TempDir,
    }

    impl System {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn limit(&self, file: &str, limit: &str) {
            let file = self.folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{limit}\n")).unwrap();
        }

        fn mounts(&self, root: &str) -> String {
            let at = self.folder.path().display();
            format!(
                "24 1 0:21 / /proc rw,nosuid - proc proc rw\n\
                 30 24 0:26 {root} {at}/two rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                 31 24 0:27 {root} {at}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                 32 24 0:28 {root} {at}/one rw - cgroup cgroup rw,memory\n"
            )
        }
    }

    const TWO: &str = "0::/a/b c\n";
    const ONE: &str = "9:name=systemd:/\n4:cpu,cpuacct:/x\n3:memory,hugetlb:/a/b c\n";

    #[test]
    fn the_limit_is_the_smallest_of_a_group_and_its_parents() {
        for (groups, at, file) in
            [(TWO, "two", "memory.max"), (ONE, "one", "memory.limit_in_bytes")]
        {
            let system = System::new();
            let limit = || smallest(groups, &system.mounts("/"));
            assert_eq!(limit(), None);
            system.limit(&format!("{at}/a/b c/{file}"), "max");
            assert_eq!(limit(), None);
            system.limit(&format!("{at}/a/{file}"), "3000");
            assert_eq!(limit(), Some(3000));
            system.limit(&format!("{at}/a/b c/{file}"), "5000");
            assert_eq!(limit(), Some(3000));
            system.limit(&format!("{at}/a/b c/{file}"), "2000");
            assert_eq!(limit(), Some(2000));
            system.limit(&format!("{at}/{file}"), "1000");
            assert_eq!(limit(), Some(1000));
            // Limits of other groups, and limits outside the hierarchy.
            system.limit(&format!("{at}/other/{file}"), "1");
            system.limit(file, "1");
            system.limit(&format!("cpu/{file}"), "1");
            assert_eq!(limit(), Some(1000));
        }
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_finds_its_limit() {
        for (groups, at, file) in
            [(TWO, "two", "memory.max"), (ONE, "one", "memory.limit_in_bytes")]
        {
            let system = System::new();
            system.limit(&format!("{at}/{file}"), "4000");
            for root in ["/a/b\\040c", "/a", "/elsewhere"] {
                assert_eq!(smallest(groups, &system.mounts(root)), Some(4000), "{root}");
            }
            system.limit(&format!("{at}/b c/{file}"), "2000");
            assert_eq!(smallest(groups, &system.mounts("/a")), Some(2000));
        }
    }

    #[test]
    fn the_smaller_limit_holds_if_both_cgroup_versions_are_mounted() {
        let system = System::new();
        system.limit("two/a/memory.max", "2000");
        system.limit("one/a/memory.limit_in_bytes", "9223372036854771712");
        let groups = format!("{ONE}{TWO}");
        assert_eq!(smallest(&groups, &system.mounts("/")), Some(2000));
        system.limit("one/a/memory.limit_in_bytes", "1000");
        assert_eq!(smallest(&groups, &system.mounts("/")), Some(1000));
    }

    #[test]
    fn input_that_cannot_be_parsed_sets_no_limit() {
        for (groups, mounts) in [
            ("", ""),
            (TWO, ""),
            ("0\n0:\n:::\n", "30 24 0:26 / /none rw - cgroup2 cgroup2 rw\n"),
            (TWO, "30 24 0:26 / - cgroup2\n - \n30 - cgroup x rw,memory\n"),
            (ONE, "30 24 0:26 / /none rw - cgroup\n"),
        ] {
            assert_eq!(smallest(groups, mounts), None, "{groups:?} {mounts:?}");
        }
    }
}
