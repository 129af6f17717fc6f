//! Which peers are there, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::members::{Members, State};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    node: String,
}

/// The control plane's metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PeerMetrics {
    up: Family<Labels, Gauge>,
}

impl PeerMetrics {
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("peer_up", "Whether a peer answers, 1 or 0", metrics.up.clone());
        metrics
    }

    /// What is shown from now on, and what was before.
    pub(super) fn show(&self, before: &Members, now: &Members) {
        for peer in &now.peers {
            // One that is refused may have the name of one that is up.
            let up = now.peers.iter().any(|other| other.node == peer.node && other.state == State::Up);
            self.up.get_or_create_owned(&Labels { node: peer.node.clone() }).set(up.into());
        }
        for peer in &before.peers {
            if !now.peers.iter().any(|other| other.node == peer.node) {
                self.up.remove(&Labels { node: peer.node.clone() });
            }
        }
    }
}
