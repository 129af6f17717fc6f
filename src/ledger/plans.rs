//! Layouts decoded from plans as they are stored: the canonical JSON, gzip, under its SHA-256.

use std::collections::HashMap;
use std::sync::Arc;

use engine::plan::Layout;
use tokio::sync::Mutex;

use crate::catalogue::stored;

/// Layouts by plan hash: many options share a plan, and decoding a stadium takes a while. Shards that
/// restore at the same time wait for one decoding instead of doing each their own.
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    layouts: Mutex<HashMap<String, Arc<Layout>>>,
}

impl PlanCache {
    /// `body` reads the plan where it is not known yet.
    pub(super) async fn layout(
        &self,
        hash: &str,
        body: impl Future<Output = Result<Option<Vec<u8>>, sqlx::Error>>,
    ) -> Result<Arc<Layout>, sqlx::Error> {
        let mut layouts = self.layouts.lock().await;
        if let Some(layout) = layouts.get(hash) {
            return Ok(Arc::clone(layout));
        }
        let unreadable = |reason: String| sqlx::Error::Decode(format!("plan {hash}: {reason}").into());
        let gzip = body.await?.ok_or_else(|| unreadable("it is missing".to_owned()))?;
        let layout = tokio::task::spawn_blocking(move || stored::layout(&gzip))
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        let layout = Arc::new(layout);
        layouts.insert(hash.to_owned(), Arc::clone(&layout));
        Ok(layout)
    }
}
