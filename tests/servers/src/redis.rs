//! Redis: alone, watched by sentinels, or as a cluster.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Process, find_binary, free_port};

const ADVICE: &str =
    "Install Redis 7 (Debian: apt-get install redis-server redis-sentinel), or put its programs on the PATH.";

/// A server comes up in milliseconds; a sentinel set and a cluster need a few seconds to agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private Redis. Killed when dropped, and when the test dies.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    pub port: u16,
    dir: TempDir,
    args: Vec<String>,
}

impl Redis {
    /// Starts an empty one without persistence and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings, e.g. `["--requirepass", "open sesame"]`.
    pub fn start_with(args: &[&str]) -> Self {
        let redis = Self::spawn(free_port(), args);
        redis.wait();
        redis
    }

    fn spawn(port: u16, args: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = launch("redis-server", &dir.path().join("log"), |command| {
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "no", "--dir"]).arg(dir.path()).args(&args);
        });
        Self { process, port, dir, args }
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts again on the same port, after [`Self::kill`], with nothing in it.
    pub fn restart(&mut self) {
        self.process.kill();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let again = Self::spawn(self.port, &args);
        again.wait();
        *self = again;
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// `SIGSTOP` makes it hang, `SIGCONT` brings it back.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Forgets everything, also what it knows of scripts.
    pub fn flush(&self) {
        self.say(&["FLUSHALL"]);
        self.say(&["SCRIPT", "FLUSH"]);
    }

    /// Sends a command and returns the answer in Redis's own form, errors included.
    pub fn say(&self, words: &[&str]) -> String {
        say(self.port, words).unwrap_or_else(|error| panic!("redis at {}: {error}", self.port))
    }

    /// The same, where a password is wanted.
    pub fn say_as(&self, password: &str, words: &[&str]) -> String {
        let said = exchange(self.port, &[&["AUTH", password], words]);
        said.unwrap_or_else(|error| panic!("redis at {}: {error}", self.port)).swap_remove(1)
    }

    fn wait(&self) {
        wait(&format!("redis at {} does not answer; see {}", self.port, self.dir.path().display()), || {
            // With a password set, the refusal is an answer too.
            say(self.port, &["PING"]).is_ok_and(|answer| answer.contains("PONG") || answer.contains("NOAUTH"))
        });
    }
}

/// A primary, a replica and three sentinels that watch them under the name `hotseat`.
#[derive(Debug)]
pub struct RedisSentinels {
    pub primary: Redis,
    pub replica: Redis,
    sentinels: Vec<(Process, u16)>,
    _dir: TempDir,
}

impl RedisSentinels {
    /// Starts them and waits until they know each other and the replica follows.
    pub fn start() -> Self {
        let primary = Redis::start();
        let port = primary.port.to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let dir = TempDir::new().expect("a temporary directory");
        let sentinel = |number: usize| {
            let port = free_port();
            let file = dir.path().join(format!("sentinel-{number}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor hotseat 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds hotseat 500\nsentinel failover-timeout hotseat 2000\n",
                dir.path().display(),
                primary.port
            );
            std::fs::write(&file, text).expect("a temporary directory takes a file");
            let process = launch("redis-server", &dir.path().join(format!("log-{number}")), |command| {
                command.arg(&file).arg("--sentinel");
            });
            (process, port)
        };
        let sentinels: Vec<_> = (0..3).map(sentinel).collect();
        let set = Self { primary, replica, sentinels, _dir: dir };
        wait("the sentinels do not agree", || {
            set.sentinels.iter().all(|(_, port)| {
                let said = say(*port, &["SENTINEL", "master", "hotseat"]).unwrap_or_default();
                let field = |name: &str, value: &str| {
                    said.contains(&format!("{name}\r\n${}\r\n{value}\r\n", value.len()))
                };
                field("num-other-sentinels", "2") && field("num-slaves", "1")
            })
        });
        set
    }

    /// `redis+sentinel://HOST:PORT,…/hotseat`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/hotseat", hosts.join(","))
    }
}

/// Three primaries that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts them and waits until every node says that the cluster is up.
    pub fn start() -> Self {
        let node = |number: usize| {
            // The bus listens 10,000 ports higher.
            let port = loop {
                let port = free_port();
                if port < 55_000 {
                    break port;
                }
            };
            let file = format!("nodes-{number}.conf");
            let redis = Redis::spawn(
                port,
                &[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-config-file",
                    &file,
                    "--cluster-node-timeout",
                    "1000",
                    // The nodes that live go on for their own slots.
                    "--cluster-require-full-coverage",
                    "no",
                ],
            );
            redis.wait();
            redis
        };
        let nodes: Vec<Redis> = (0..3).map(node).collect();
        let shares = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];
        for (node, (first, last)) in nodes.iter().zip(shares) {
            node.say(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.say(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port.to_string()]);
        }
        wait("the cluster does not come up", || {
            nodes.iter().all(|node| {
                let said = node.say(&["CLUSTER", "INFO"]);
                said.contains("cluster_state:ok") && said.contains("cluster_known_nodes:3")
            })
        });
        Self { nodes }
    }

    /// `redis+cluster://HOST:PORT,…`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

/// Starts a program that the kernel kills when this thread's process ends, however it ends.
fn launch(name: &str, log: &Path, configure: impl FnOnce(&mut Command)) -> Process {
    let setpriv = find_binary("setpriv", &[], "Install util-linux.");
    let binary = find_binary(name, &[PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/bin")], ADVICE);
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
    configure(&mut command);
    let log = std::fs::File::create(log).expect("a temporary directory takes a log");
    command.stdout(Stdio::from(log)).stderr(Stdio::null());
    Process::start(&mut command)
}

#[track_caller]
fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// One command on a connection of its own; the whole answer as it came.
fn say(port: u16, words: &[&str]) -> std::io::Result<String> {
    Ok(exchange(port, &[words])?.swap_remove(0))
}

/// Some commands on a connection of their own, and an answer to each.
fn exchange(port: u16, commands: &[&[&str]]) -> std::io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    for words in commands {
        let mut command = format!("*{}\r\n", words.len());
        for word in *words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes())?;
    }
    let mut from = BufReader::new(stream);
    commands
        .iter()
        .map(|_| {
            let mut said = String::new();
            read(&mut from, &mut said).map(|()| said)
        })
        .collect()
}

fn read(from: &mut BufReader<TcpStream>, said: &mut String) -> std::io::Result<()> {
    let start = said.len();
    if from.read_line(said)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = said[start..].trim_end().to_owned();
    let count = || line[1..].parse::<i64>().map_err(std::io::Error::other);
    match line.as_bytes().first() {
        Some(b'$') => {
            if let Ok(bytes) = u64::try_from(count()?) {
                from.take(bytes + 2).read_to_string(said)?;
            }
        }
        Some(b'*') => {
            for _ in 0..count()?.max(0) {
                read(from, said)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_killed_comes_back_empty() {
        let mut redis = Redis::start();
        assert_eq!(redis.say(&["SET", "a", "1"]), "+OK\r\n");
        redis.restart();
        assert_eq!(redis.say(&["GET", "a"]), "$-1\r\n");
        assert!(redis.say(&["NONSENSE"]).starts_with("-ERR"));
    }

    #[test]
    fn sentinels_and_clusters_come_up() {
        let sentinels = RedisSentinels::start();
        assert_eq!(sentinels.url().matches(':').count(), 4);
        let cluster = RedisCluster::start();
        assert!(cluster.nodes[2].say(&["CLUSTER", "KEYSLOT", "{7}"]).starts_with(':'));
    }
}
