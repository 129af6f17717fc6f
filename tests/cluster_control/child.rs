//! A node: the control plane alone, driven over standard input, and telling what it sees on standard output, a line of
//! JSON each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use hotseat::cluster::{
    Control, ControlHandler, ControlHint, ControlReply, ControlRequest, ControlSettings, Hello, Members,
    PeerMetrics, Reach, Route, ShardMove, Stage, Status, Tls, TlsFiles,
};
use hotseat::config::peers;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the first argument of a child begins with.
pub const FLAG: &str = "--node=";

/// Who to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub node: String,
    pub id: u64,
    pub listen: SocketAddr,
    pub peers: String,
    pub cluster: u64,
    pub protocol: (u16, u16),
    /// CA, certificate, key.
    pub tls: Option<[PathBuf; 3]>,
}

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Say {
        draining: bool,
        away: bool,
        shards: Vec<(u16, u64)>,
    },
    /// Answers with a line `{"asked": …}`.
    Ask {
        node: u64,
    },
    /// As many at once, to a peer that takes its time.
    Flood {
        node: u64,
        count: usize,
    },
    Hint {
        shard: u16,
    },
    Metrics,
    End,
}

pub fn run(config: &str) {
    let config: Config = serde_json::from_str(config).expect("the parent writes JSON");
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    logs.with_max_level(tracing::Level::INFO).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(serve(config));
}

async fn serve(config: Config) {
    let mut registry = Registry::with_prefix("hotseat");
    let metrics = PeerMetrics::register(&mut registry);
    let settings = match settings(&config, metrics) {
        Ok(settings) => settings,
        Err(error) => return tell(&json!({ "failed": error })),
    };
    let name = config.node.clone();
    let data = Router::new().route("/who", get(async move || name));
    let control = match Control::start(settings, data, Arc::new(Echo)).await {
        Ok(control) => control,
        Err(error) => return tell(&json!({ "failed": format!("{error:#}") })),
    };
    tell(&json!({ "listens": control.peer_addr().to_string() }));
    let mut members = control.members();
    tokio::spawn(async move {
        loop {
            let seen = members.borrow_and_update().clone();
            tell(&shown(&seen));
            if members.changed().await.is_err() {
                return;
            }
        }
    });
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Say { draining, away, shards } => {
                let ledger = if away { Reach::Away { since: Instant::now() } } else { Reach::Reaches };
                control.say(Status { draining, ledger, shards });
            }
            Order::Ask { node } => ask(&control, node).await,
            Order::Flood { node, count } => flood(&control, node, count).await,
            Order::Hint { shard } => control.tell_all(ControlHint::RouteChanged(Route {
                shard,
                epoch: 1,
                owner: config.id.into(),
                node: config.node.clone(),
                public_url: String::new(),
                peer_url: String::new(),
            })),
            Order::Metrics => {
                let mut text = String::new();
                prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
                tell(&json!({ "metrics": text }));
            }
            Order::End => {
                control.clone().end().await;
                return tell(&json!({ "ended": true }));
            }
        }
    }
}

/// What the parent wants, until it is gone.
fn orders() -> mpsc::Receiver<Order> {
    let (orders, received) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let order = serde_json::from_str(&line).expect("the parent writes JSON");
            if orders.blocking_send(order).is_err() {
                return;
            }
        }
    });
    received
}

fn settings(config: &Config, metrics: PeerMetrics) -> Result<ControlSettings, String> {
    let tls = config.tls.clone().map(|[ca, cert, key]| Tls::read(&TlsFiles { ca, cert, key }));
    let public_url = format!("http://{}", config.node);
    let mut me = Hello::new(config.cluster.into(), &config.node, config.id.into(), &public_url, "");
    (me.protocol_min, me.protocol_max) = config.protocol;
    Ok(ControlSettings {
        listen: config.listen,
        peers: peers::parse(&config.peers)?,
        tls: tls.transpose().map_err(|error| error.to_string())?,
        me,
        status: Status { draining: false, ledger: Reach::Reaches, shards: vec![(1, config.id)] },
        lease_renew: Duration::from_millis(1_500),
        metrics,
    })
}

async fn ask(control: &Control, node: u64) {
    let deadline = Instant::now() + Duration::from_secs(2);
    let request = ControlRequest::MoveShard { shard: 17, to: 9, id: 3 };
    let asked = control.ask(node.into(), request, deadline).await;
    tell(&json!({ "asked": format!("{asked:?}") }));
}

async fn flood(control: &Control, node: u64, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let asked = (0..count).map(|_| {
        let control = control.clone();
        tokio::spawn(async move { control.ask(node.into(), ControlRequest::MoveStatus, deadline).await })
    });
    let mut busy = 0;
    let mut answered = 0;
    for asked in asked.collect::<Vec<_>>() {
        match asked.await.expect("no panic") {
            Ok(_) => answered += 1,
            Err(hotseat::cluster::PeerError::Busy) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    tell(&json!({ "flooded": [answered, busy] }));
}

/// Does what it is asked, slowly where that is to be seen.
struct Echo;

#[async_trait]
impl ControlHandler for Echo {
    async fn answer(&self, from: u128, request: ControlRequest) -> ControlReply {
        match request {
            ControlRequest::MoveShard { shard, to, id } => {
                let (from, to) = (from.to_string(), to.to_string());
                let (stage, since, eta) = (Stage::Moving, 5, None);
                ControlReply::Moves(vec![ShardMove { id, shard, from, to, stage, since, eta }])
            }
            ControlRequest::Drain => ControlReply::Moves(Vec::new()),
            ControlRequest::MoveStatus => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                ControlReply::Moves(Vec::new())
            }
        }
    }

    fn hint(&self, from: u128, hint: ControlHint) {
        let ControlHint::RouteChanged(route) = hint;
        tell(&json!({ "hint": route.shard, "from": u64::try_from(from).expect("small") }));
    }
}

fn tell(line: &Value) {
    println!("{line}");
}

fn shown(members: &Members) -> Value {
    let peers = members.peers.iter().map(|peer| {
        json!({
            "node": peer.node,
            "id": u64::try_from(peer.id).expect("small"),
            "peerUrl": peer.peer_url,
            "publicUrl": peer.public_url,
            "state": format!("{:?}", peer.state),
            "draining": peer.draining,
            "away": peer.ledger != Reach::Reaches,
            "shards": peer.shards,
        })
    });
    let unmet = members.unmet.iter().map(|unmet| json!([unmet.address, unmet.why]));
    json!({ "members": peers.collect::<Vec<_>>(), "unmet": unmet.collect::<Vec<_>>() })
}
