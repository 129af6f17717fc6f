//! Plans as stored, and the layouts decoded from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use engine::plan::Layout;

/// Layouts by plan hash: many options share a plan, and decoding a stadium takes a while.
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    layouts: Mutex<HashMap<String, Arc<Layout>>>,
}
