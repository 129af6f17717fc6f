//! `DATA/run.json`: how `import` and `audit` find the server that runs on a data directory.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth_key::write_private;

const NAME: &str = "run.json";

/// Where the running server is, and a token it accepts until it ends. Only this user may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFile {
    pub ops_url: String,
    pub public_url: String,
    /// Of role ADMIN.
    pub token: String,
    pub pid: u32,
}

impl RunFile {
    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_private(&dir.join(NAME), &serde_json::to_string(self)?)
    }

    /// The file of a data directory. It may be of a server that was killed: whether it still listens is to be
    /// tried.
    ///
    /// # Errors
    /// The file system's, or it is no run file.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(NAME)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes it, at a clean shutdown.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(dir: &Path) -> io::Result<()> {
        fs::remove_file(dir.join(NAME))
    }
}
