//! The connection: made when it is needed, checked, and thrown away when it fails.

use std::fmt::Display;
use std::time::Duration;

use actors::ports::MirrorError;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::is_fatal;
use crate::redis_url::{Kind, RedisUrl};

/// Redis is near, or it is no use as a mirror.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_millis(500);

/// The least version that this is tested with.
const VERSION: u32 = 7;

#[derive(Debug)]
pub(super) struct Link {
    url: RedisUrl,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    /// Counts connections, so that a late failure of an old one does not end the new one.
    number: u64,
    connection: Option<Connection>,
}

#[derive(Clone)]
enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Node",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Link {
    pub fn new(url: RedisUrl) -> Self {
        Self { url, current: Mutex::default() }
    }

    /// With the name of the server, and without the password.
    pub fn error(&self, what: impl Display) -> MirrorError {
        MirrorError(format!("{}: {what}", self.url))
    }

    pub async fn ping(&self) -> Result<(), MirrorError> {
        let answer = self.send(vec![redis::cmd("PING")]).await?.pop();
        answer.unwrap_or(Ok(Value::Nil)).map(|_| ()).map_err(|error| self.error(error))
    }

    /// Sends all commands at once. The answers are in their order; a command may have been refused alone.
    pub async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, MirrorError> {
        let (number, connection) = self.connection().await?;
        let answers = match connection {
            Connection::Node(node) => pipelined(node, commands).await,
            Connection::Cluster(cluster) => side_by_side(cluster, commands).await,
        };
        let failed = match &answers {
            Ok(answers) => answers.iter().any(|answer| answer.as_ref().is_err_and(is_fatal)),
            Err(_) => true,
        };
        if failed {
            let mut current = self.current.lock().await;
            if current.number == number {
                current.connection = None;
            }
        }
        answers.map_err(|error| self.error(error))
    }

    async fn connection(&self) -> Result<(u64, Connection), MirrorError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((current.number, connection.clone()));
        }
        let connection = match timeout(CONNECT, self.connect()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(self.error(format_args!("no answer within {CONNECT:?}"))),
        };
        current.number += 1;
        current.connection = Some(connection.clone());
        Ok((current.number, connection))
    }

    async fn connect(&self) -> Result<Connection, MirrorError> {
        let connected = match &self.url.kind {
            Kind::Single => self.connect_single().await.map(Connection::Node),
            Kind::Sentinel { service } => self.connect_primary(service).await.map(Connection::Node),
            Kind::Cluster => self.connect_cluster().await.map(Connection::Cluster),
        };
        let connection = connected.map_err(|error| self.error(error))?;
        self.check(&connection).await?;
        Ok(connection)
    }

    async fn connect_single(&self) -> RedisResult<MultiplexedConnection> {
        let info = self.infos()?.swap_remove(0);
        Client::open(info)?.get_multiplexed_async_connection_with_config(&patience()).await
    }

    async fn connect_primary(&self, service: &str) -> RedisResult<MultiplexedConnection> {
        let mut builder = SentinelClientBuilder::new(self.addresses(), service, SentinelServerType::Master)?
            .set_client_to_redis_db(self.url.db)
            .set_client_to_redis_tcp_settings(no_delay());
        if let Some(user) = &self.url.login.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.url.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.url.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        builder.build()?.get_async_connection_with_config(&patience()).await
    }

    async fn connect_cluster(&self) -> RedisResult<ClusterConnection> {
        redis::cluster::ClusterClientBuilder::new(self.infos()?)
            .connection_timeout(CONNECT)
            .response_timeout(ANSWER)
            .tcp_settings(no_delay())
            // Enough to follow a slot that has moved; the rest is the mirroring's to repeat.
            .retries(2)
            .build()?
            .get_async_connection()
            .await
    }

    fn addresses(&self) -> Vec<ConnectionAddr> {
        let address = |(host, port): &(String, u16)| {
            if self.url.tls {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host.clone(), *port)
            }
        };
        self.url.hosts.iter().map(address).collect()
    }

    fn infos(&self) -> RedisResult<Vec<ConnectionInfo>> {
        let mut settings = RedisConnectionInfo::default().set_db(self.url.db);
        if let Some(user) = &self.url.login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.url.login.password {
            settings = settings.set_password(password);
        }
        let info = |address: ConnectionAddr| -> RedisResult<ConnectionInfo> {
            let info = address.into_connection_info()?;
            Ok(info.set_redis_settings(settings.clone()).set_tcp_settings(no_delay()))
        };
        self.addresses().into_iter().map(info).collect()
    }

    /// Of the right version, and takes writes.
    async fn check(&self, connection: &Connection) -> Result<(), MirrorError> {
        let ask = |section: &str| redis::cmd("INFO").arg(section).to_owned();
        let said = match connection.clone() {
            Connection::Node(node) => pipelined(node, vec![ask("server"), ask("replication")]).await,
            Connection::Cluster(mut cluster) => {
                let anyone = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                cluster.route_command(ask("server"), anyone).await.map(|said| vec![Ok(said)])
            }
        };
        let mut info = String::new();
        for said in said.map_err(|error| self.error(error))? {
            let said = said.and_then(|said| Ok(redis::from_redis_value::<String>(said)?));
            info.push_str(&said.map_err(|error| self.error(error))?);
        }
        check(&info).map_err(|what| self.error(what))
    }
}

/// What `INFO` must say.
fn check(info: &str) -> Result<(), String> {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let version = field("redis_version").ok_or("it does not say that it is Redis")?;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < VERSION) {
        return Err(format!("it is Redis {version}, and {VERSION}.0 is the least that is tested"));
    }
    if field("role") == Some("slave") {
        let host = field("master_host").unwrap_or("somewhere");
        let port = field("master_port").unwrap_or("?");
        return Err(format!("it is a read-only replica of {host}:{port}; mirror.url must name the primary"));
    }
    Ok(())
}

fn patience() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER))
}

/// A batch must not wait for the acknowledgement of the one before.
fn no_delay() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

async fn pipelined(
    mut node: MultiplexedConnection,
    commands: Vec<Cmd>,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    commands.into_iter().for_each(|command| _ = pipeline.add_command(command));
    pipeline.ignore_errors().query_async(&mut node).await
}

/// The nodes of a cluster answer for themselves: one that is away fails its own options only.
async fn side_by_side(
    cluster: ClusterConnection,
    commands: Vec<Cmd>,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut answers: Vec<RedisResult<Value>> =
        commands.iter().map(|_| Err(RedisError::from(std::io::Error::other("no answer")))).collect();
    let mut asked = JoinSet::new();
    for (place, command) in commands.into_iter().enumerate() {
        let mut cluster = cluster.clone();
        asked.spawn(async move { (place, command.query_async(&mut cluster).await) });
    }
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((place, answer)) => answers[place] = answer,
            Err(error) => tracing::error!(%error, "a command to the cluster broke off"),
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_info_says_is_judged() {
        let rows = [
            ("redis_version:7.0.15\r\nrole:master\r\n", None),
            ("redis_version:8.2.1\r\n", None),
            ("redis_version:6.2.6\r\n", Some("it is Redis 6.2.6, and 7.0 is the least that is tested")),
            ("nothing", Some("it does not say that it is Redis")),
            (
                "redis_version:7.0.15\r\nrole:slave\r\nmaster_host:a\r\nmaster_port:7\r\n",
                Some("it is a read-only replica of a:7; mirror.url must name the primary"),
            ),
        ];
        for (info, refused) in rows {
            assert_eq!(check(info).err().as_deref(), refused, "{info}");
        }
    }
}
