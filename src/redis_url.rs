//! Where a Redis is: alone, behind sentinels, or a cluster. Pure; the password shows nowhere.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

const PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// A `redis://`, `rediss://` (TLS), `redis+sentinel://` or `redis+cluster://` URL. `Display` leaves out who
/// logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    pub kind: Kind,
    /// Whether to talk TLS, to sentinels too.
    pub tls: bool,
    /// Who logs in to Redis; sentinels are asked without.
    pub login: Login,
    /// At least one; more only for sentinels and clusters.
    pub hosts: Vec<(String, u16)>,
    /// The database; clusters have only 0.
    pub db: i64,
}

/// Who answers at the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Single,
    /// Sentinels, which know where the primary of this name is.
    Sentinel {
        service: String,
    },
    Cluster,
}

/// User and password, both optional. Not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() { "kept secret" } else { "none" })
    }
}

/// What the URLs look like, for messages.
pub const FORMS: &str = "\"redis://HOST:PORT/DB\", \"redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB\" or \
                         \"redis+cluster://HOST:PORT,HOST:PORT\", USER:PASSWORD@ before the hosts, rediss for TLS";

impl FromStr for RedisUrl {
    type Err = String;

    /// The error is what was found and why it does not do, without what may be a password.
    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("a URL without \"://\"")?;
        let (tls, kind) = match scheme {
            "redis" => (false, Kind::Single),
            "rediss" => (true, Kind::Single),
            "redis+sentinel" => (false, Kind::Sentinel { service: String::new() }),
            "rediss+sentinel" => (true, Kind::Sentinel { service: String::new() }),
            "redis+cluster" => (false, Kind::Cluster),
            "rediss+cluster" => (true, Kind::Cluster),
            other => return Err(format!("the scheme {other:?}")),
        };
        // A slash in a password must be written %2F, so the first one ends the hosts.
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains(['?', '#', '@']) || authority.contains(['?', '#']) {
            return Err(
                "a '?', '#' or '@' behind the hosts (in a password write %3F, %23, %40 and %2F)".into()
            );
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (read_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let port = if matches!(kind, Kind::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let hosts: Vec<_> = hosts.split(',').map(|host| read_host(host, port)).collect::<Result<_, _>>()?;
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (kind, db) = match (kind, segments.as_slice()) {
            (Kind::Single, _) if hosts.len() > 1 => return Err("several hosts".into()),
            (Kind::Sentinel { .. }, []) => return Err("no name of a service behind the sentinels".into()),
            (Kind::Sentinel { .. }, [service, db @ ..]) => {
                (Kind::Sentinel { service: (*service).to_owned() }, read_db(db)?)
            }
            (Kind::Cluster, [_, ..]) => return Err("a database: a cluster has only one".into()),
            (kind, db) => (kind, read_db(db)?),
        };
        Ok(Self { kind, tls, login, hosts, db })
    }
}

fn read_login(text: &str) -> Result<Login, String> {
    let decode = |text: &str| (!text.is_empty()).then(|| decode(text)).transpose();
    // "user:password@", ":password@"; a lone word is the user, as everywhere.
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Login { user: decode(user)?, password: decode(password)? })
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || "a '%' in the login that is not followed by two hex digits of UTF-8".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn read_host(text: &str, port: u16) -> Result<(String, u16), String> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(v6) => v6.split_once(']').ok_or("a '[' without its ']'")?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() {
        return Err("no host".into());
    }
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => port,
        // Not repeated: without an '@' it may be a password.
        None => return Err("something behind a host that is no port".into()),
        Some(text) => text.parse().ok().filter(|port| *port > 0).ok_or("a port that is not 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

fn read_db(segments: &[&str]) -> Result<i64, String> {
    match segments {
        [] => Ok(0),
        [db] => match db.parse::<u16>() {
            Ok(db) => Ok(db.into()),
            Err(_) => Err(format!("{db:?} for the number of a database")),
        },
        _ => Err("more than a database behind the hosts".into()),
    }
}

impl Display for RedisUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (scheme, service) = match &self.kind {
            Kind::Single => ("", None),
            Kind::Sentinel { service } => ("+sentinel", Some(service)),
            Kind::Cluster => ("+cluster", None),
        };
        write!(f, "redis{}{scheme}://", if self.tls { "s" } else { "" })?;
        for (number, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{host}{close}:{port}")?;
        }
        if let Some(service) = service {
            write!(f, "/{service}")?;
        }
        if self.db == 0 { Ok(()) } else { write!(f, "/{}", self.db) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_the_login() {
        let rows = [
            ("redis://cache", "redis://cache:6379", None, None),
            ("redis://cache/", "redis://cache:6379", None, None),
            ("redis://:pa%2Fss@cache:7000/3", "redis://cache:7000/3", None, Some("pa/ss")),
            ("rediss://seats:a:b@[::1]:7000", "rediss://[::1]:7000", Some("seats"), Some("a:b")),
            ("redis+sentinel://a,b:7,c/hotseat", "redis+sentinel://a:26379,b:7,c:26379/hotseat", None, None),
            ("rediss+sentinel://x@a/hotseat/2", "rediss+sentinel://a:26379/hotseat/2", Some("x"), None),
            ("redis+cluster://u:p@a,b:7/", "redis+cluster://a:6379,b:7", Some("u"), Some("p")),
        ];
        for (url, shown, user, password) in rows {
            let read: RedisUrl = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(read.to_string(), shown);
            assert_eq!(
                (read.login.user.as_deref(), read.login.password.as_deref()),
                (user, password),
                "{url}"
            );
            assert!(!format!("{read:?}").contains("pa/ss"));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rows = [
            ("cache:6379", "a URL without \"://\""),
            ("http://cache", "the scheme \"http\""),
            ("redis://", "no host"),
            ("redis://a,b", "several hosts"),
            ("redis://a:0", "a port that is not 1 to 65535"),
            ("redis://a:99999", "a port that is not 1 to 65535"),
            ("redis://[::1", "a '[' without its ']'"),
            ("redis://a/x", "\"x\" for the number of a database"),
            ("redis://a/1/2", "more than a database behind the hosts"),
            ("redis://a/1?tls", "a '?', '#' or '@' behind the hosts"),
            ("redis://:hunter2/@a", "a '?', '#' or '@' behind the hosts"),
            ("redis://:%zz@a", "a '%' in the login"),
            ("redis+sentinel://a,b", "no name of a service behind the sentinels"),
            ("redis+sentinel://a/s/x", "\"x\" for the number of a database"),
            ("redis+cluster://a/1", "a database: a cluster has only one"),
        ];
        for (url, what) in rows {
            let error = url.parse::<RedisUrl>().expect_err(url);
            assert!(error.starts_with(what), "{url}: {error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
