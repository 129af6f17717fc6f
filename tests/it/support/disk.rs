//! A disk of a few MiB for a test to fill: a tmpfs that only the test's own process and its children see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Place;

/// Set in the process that a test runs in again.
const MOUNTS_ARE_OURS: &str = "IT_MOUNTS_ARE_OURS";

/// Runs a test that mounts. `test` is its full name: it runs once more in a process with mounts of its own, which
/// vanish with it, however it ends.
pub fn with_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(MOUNTS_ARE_OURS).is_some() {
        return body();
    }
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let ran = unshare
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(MOUNTS_ARE_OURS, "1")
        .output()
        .expect("unshare is not installed. On Debian: apt-get install util-linux");
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{test} wants a mount of its own: run it as root, or where users may make namespaces\n{said}"
    );
}

/// A data directory that is a disk of its own. Its logs are beside it, on the machine's disk.
pub struct Disk {
    data: PathBuf,
}

impl Disk {
    /// Only inside [`with_mounts`].
    pub fn on(place: &Place, size: &str) -> Self {
        fs::create_dir(&place.data).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"], &place.data);
        Self { data: place.data.clone() }
    }

    /// Leaves no block free.
    pub fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        let zeros = [0; 4_096];
        while std::io::Write::write(&mut ballast, &zeros).is_ok_and(|written| written > 0) {}
    }

    /// Takes away what [`Disk::fill`] wrote.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// As an administrator, or the kernel after an error, does.
    pub fn set_read_only(&self, read_only: bool) {
        mount(&["-o", if read_only { "remount,ro" } else { "remount,rw" }], &self.data);
    }

    fn ballast(&self) -> PathBuf {
        self.data.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It goes with the process anyway; this lets the directory go now.
        let _ = Command::new("umount").arg("--lazy").arg(&self.data).status();
    }
}

fn mount(args: &[&str], on: &Path) {
    let status = Command::new("mount").args(args).arg(on).status().unwrap();
    assert!(status.success(), "mount {args:?} {}", on.display());
}
