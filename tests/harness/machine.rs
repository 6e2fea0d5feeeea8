//! Simulated machine for one test: a mount namespace where `/run` and `/tmp` are directories of the
//! test and everything else is read-only.

use std::{
    fs::{Permissions, create_dir_all, read_dir, set_permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{Autostarted, Pfs, daemon::served_by, folder, skip};

/// Mounts the test's `/run` and `/tmp`, which are both below one directory outside, and then
/// executes the command. The binaries are mounted at `/run/bin`, because their folder may be below
/// `/tmp` and would be hidden.
const SCRIPT: &str = r#"
set -e
root=$1 binaries=$2 read_only=$3
shift 3
mount --bind "$binaries" "$root/run/bin"
mount --rbind "$root/run" /run
mount --bind "$root/tmp" /tmp
# Not every kernel lets a user without privileges do that.
mount -o remount,bind,ro / 2>/dev/null || :
cd /
for directory in $read_only; do
    mount --rbind "$directory" "$directory"
    mount -o remount,bind,ro "$directory"
done
exec "$@"
"#;

/// Simulated machine without processes. Dropping a `Machine` kills the daemons that were started
/// on it.
pub struct Machine {
    root: TempDir,
    read_only: String,
}

impl Machine {
    /// Creates a machine on which every user is root. Returns `None`, and reports the test as
    /// skipped, if this process may not create mounts.
    pub fn new() -> Option<Self> {
        let root = tempfile::tempdir().expect("a temporary folder");
        let machine = Self { root, read_only: String::new() };
        machine.directory("/run/bin", 0, 0o755);
        machine.directory("/tmp", 0, 0o1777);
        let tried = machine.unshared().arg("true").stdin(Stdio::null()).output();
        if tried.is_ok_and(|tried| tried.status.success()) {
            return Some(machine);
        }
        skip("this process may not have mounts of its own (unshare --mount)");
        None
    }

    /// Like [`new`](Self::new), for tests with several users. These users have no passwd entry.
    pub fn with_users() -> Option<Self> {
        if !geteuid().is_root() {
            skip("only root can start processes of several users");
            return None;
        }
        Self::new()
    }

    /// Translates a path of the machine to the path outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Creates a directory with this owner and mode.
    pub fn directory(&self, path: &str, owner: u32, mode: u32) {
        let path = self.outside(path);
        create_dir_all(&path).expect("the test's own folder");
        set_permissions(&path, Permissions::from_mode(mode)).expect("the test's own folder");
        if geteuid().is_root() {
            chown(&path, Some(owner), Some(owner)).expect("root may");
        }
    }

    /// Makes a directory read-only for commands that are built later.
    pub fn make_read_only(&mut self, path: &str) {
        self.read_only += path;
        self.read_only += " ";
    }

    /// Builds a `pfs` command line that runs as this user, with these variables and no others:
    /// `HOME` and `PATH` are not set either.
    pub fn pfs(&self, user: u32, variables: &[(&str, &str)]) -> Pfs {
        self.command(user, variables, "pfs")
    }

    /// Builds a `pfsd` command line that runs as this user, with these variables and no others.
    pub fn pfsd(&self, user: u32, variables: &[(&str, &str)]) -> Pfs {
        self.command(user, variables, "pfsd")
    }

    fn command(&self, user: u32, variables: &[(&str, &str)], program: &str) -> Pfs {
        let unshared = self.unshared();
        let mut command = Pfs::new(unshared.get_program()).args(unshared.get_args());
        if user != 0 {
            let user = user.to_string();
            command =
                command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        command.args(["env", "-i"]).args(variables).arg(Path::new("/run/bin").join(program))
    }

    /// Common prefix of all commands on this machine.
    fn unshared(&self) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(self.root.path())
            .arg(folder())
            .arg(&self.read_only);
        command
    }

    /// Process id of the daemon that listens on this socket, if there is one.
    pub fn daemon(&self, socket: &str) -> Option<u32> {
        served_by(&self.outside(socket))
    }

    /// Lists the paths of all daemon sockets, as the machine sees them. A socket may be left over
    /// from a daemon that has ended.
    pub fn sockets(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in read_dir(folder).expect("the test's own folder") {
                let entry = entry.expect("the test's own folder");
                if entry.file_type().expect("it is there").is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() == "pfsd.sock" {
                    let path = entry.path();
                    let inside = path.strip_prefix(self.root.path()).expect("it is below");
                    found.push(format!("/{}", inside.display()));
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for socket in self.sockets() {
            drop(Autostarted(self.outside(&socket)));
        }
    }
}
