//! A process whose wall clock is wrong, and jumps.

use std::fs;
use std::path::PathBuf;

use super::{Place, Server, request};

/// A file that tells libfaketime, at every look at the wall clock, how far off it is.
pub struct WrongClock {
    file: PathBuf,
}

impl WrongClock {
    pub fn beside(place: &Place) -> Self {
        Self { file: place.data.with_extension("clock") }
    }

    /// For the process.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", library().to_str().unwrap().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// How far off it is from now on, such as `+5m`.
    pub fn set(&self, off: &str) {
        // In one step: half of it would be another time.
        let half = self.file.with_extension("new");
        fs::write(&half, format!("{off}\n")).unwrap();
        fs::rename(half, &self.file).unwrap();
    }
}

fn library() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let directories = directories.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    directories
        .map(|directory| directory.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.is_file())
        .expect("libfaketime is not installed. On Debian: apt-get install faketime")
}

/// Tokens are judged by the wall clock: one of a minute tells whether the server's is ahead.
pub fn is_five_minutes_ahead(server: &Server, of_a_minute: &str) -> bool {
    let bearer = format!("Bearer {of_a_minute}");
    let url = format!("{}/api/v1/reservations", server.api);
    match request("GET", &url, &[("Authorization", &bearer)], None).unwrap().status {
        200 => false,
        401 => true,
        status => panic!("{status}"),
    }
}
