//! What only ADMIN and OPS may do. The same routes on the public and the ops listener.

pub(in crate::http) mod audit;
pub(in crate::http) mod blocks;
pub(in crate::http) mod draws;
pub(in crate::http) mod gates;
pub(in crate::http) mod imports;
pub(in crate::http) mod mirror;
pub(in crate::http) mod moves;
pub(in crate::http) mod nodes;
pub(in crate::http) mod options;
pub(in crate::http) mod policies;
pub(in crate::http) mod resync;
pub(in crate::http) mod shards;
