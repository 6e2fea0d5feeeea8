//! A temporary file without a name: its path works only while this process lives, and nothing is
//! left to clean up.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process,
};

#[derive(Debug)]
pub struct Nameless {
    file: File,
    path: PathBuf,
}

impl Nameless {
    /// Creates an empty file, in memory if the system has a folder for that.
    pub fn new() -> Self {
        let folders = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
        let folder =
            folders.iter().find(|folder| folder.is_dir()).expect("a folder for temporary files");
        let name = folder.join(format!("pfs-fuzz-{}", process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&name)
            .expect("a new file");
        fs::remove_file(&name).expect("the file can be removed");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Self { file, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the contents of the file.
    pub fn write(&self, bytes: &[u8]) {
        self.file.set_len(0).expect("the file can be emptied");
        self.file.write_all_at(bytes, 0).expect("the file can be written");
    }
}
