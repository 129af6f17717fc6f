//! What tokens and passes are signed and checked with: the configured keys, or random ones in the data directory.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::config::{Config, ConfigError, Problems};
use crate::http::auth::{TokenKey, Tokens};
use crate::pass::{PassKey, Passes};

/// The random secret, in the data directory, for this user's eyes only.
pub const KEY_FILE: &str = "auth.key";

/// The random secret of passes, beside it, where tokens have a public key.
const PASS_KEY_FILE: &str = "pass.key";

/// The tokens of a configuration; makes `DATA/auth.key` where a random secret is wanted and there is none yet.
///
/// # Errors
/// A configured key is no key ([`Problems`]), or the data directory cannot be read or written.
pub fn open_or_create(config: &Config) -> anyhow::Result<Tokens> {
    let path = config.node.data.join(KEY_FILE);
    if let Some(tokens) = check(config)? {
        return Ok(tokens);
    }
    tokens(&path, secret(&path)?, config)
}

/// The tokens of a configuration whose server has run before.
///
/// # Errors
/// As [`open_or_create`], or no server has made the random secret yet.
pub fn open(config: &Config) -> anyhow::Result<Tokens> {
    if let Some(tokens) = check(config)? {
        return Ok(tokens);
    }
    let path = config.node.data.join(KEY_FILE);
    let secret = read(&path)?.with_context(|| {
        format!(
            "{} does not exist: start the server on that directory once, or set auth.secret",
            path.display()
        )
    })?;
    tokens(&path, secret, config)
}

/// The tokens of a configured key; `None` where the random one is wanted.
///
/// # Errors
/// The key cannot be read or is no key.
pub fn check(config: &Config) -> Result<Option<Tokens>, Problems> {
    let auth = &config.auth;
    let issuer = issuer(config);
    let (name, key) = if !auth.public_key.as_os_str().is_empty() {
        let path = auth.public_key.display().to_string();
        let pem = fs::read_to_string(&auth.public_key).map_err(|error| {
            let what = format!("expected the path of a PEM file, found {path:?}: {error}");
            ConfigError::new("", "auth.public_key", what)
        })?;
        (path, TokenKey::PublicKeyPem(pem))
    } else if !auth.secret.0.is_empty() {
        ("".to_owned(), TokenKey::Secret(auth.secret.0.clone()))
    } else {
        return Ok(None);
    };
    let tokens = Tokens::new(&key, issuer).map_err(|error| ConfigError::new(name, "", error.to_string()))?;
    Ok(Some(tokens))
}

/// The passes of a configuration: signed with `gate.keys`, or with what is made of the token secret. Where tokens are
/// checked with a public key there is none: a node alone makes one. In a cluster each node would make another, and refuse
/// the passes of the others without a reason that anybody finds, so passes cannot be signed there. To refuse the start
/// would punish those who have no gate.
///
/// # Errors
/// The data directory cannot be read or written.
pub fn passes(config: &Config) -> anyhow::Result<Passes> {
    let keys = config.gate.pass_keys();
    if !keys.is_empty() {
        return Ok(Passes::new(&keys));
    }
    let auth = &config.auth;
    let file = if auth.public_key.as_os_str().is_empty() { KEY_FILE } else { PASS_KEY_FILE };
    if file == PASS_KEY_FILE && !config.cluster.listen.is_empty() {
        tracing::info!("auth.public_key is set and gate.keys is not: no concert can have a gate");
        return Ok(Passes::new(&[]));
    }
    if !auth.secret.0.is_empty() {
        return Ok(Passes::new(&[PassKey::derived(auth.secret.0.as_bytes())]));
    }
    let path = config.node.data.join(file);
    let secret = secret(&path)?;
    anyhow::ensure!(
        secret.len() >= 32,
        "{} is damaged; remove it, and the next start makes another (passes given so far end)",
        path.display()
    );
    Ok(Passes::new(&[PassKey::derived(secret.as_bytes())]))
}

/// The random secret in a file, which is made where there is none.
fn secret(path: &Path) -> anyhow::Result<String> {
    match read(path)? {
        Some(secret) => Ok(secret),
        None => create(path).with_context(|| format!("{} cannot be written", path.display())),
    }
}

fn issuer(config: &Config) -> Option<String> {
    Some(config.auth.issuer.clone()).filter(|issuer| !issuer.is_empty())
}

fn tokens(path: &Path, secret: String, config: &Config) -> anyhow::Result<Tokens> {
    Tokens::new(&TokenKey::Secret(secret), issuer(config)).with_context(|| {
        format!(
            "{} is damaged; remove it, and the next start makes another (tokens issued so far end)",
            path.display()
        )
    })
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(secret) => Ok(Some(secret.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// 244 random bits in hex, written whole or not at all.
fn create(path: &Path) -> io::Result<String> {
    let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    write_private(path, &secret)?;
    Ok(secret)
}

/// Writes a file that only this user may read, whole or not at all.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let half = path.with_extension("new");
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&half, path)
}
