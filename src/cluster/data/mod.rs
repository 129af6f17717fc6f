//! The data plane: commands that clients brought to the wrong node, on their way to the owner, and the feeds of options
//! on their way from it.
//!
//! What travels is the command, not the request that brought it: the node that a client reached does everything
//! but decide, so that a hot concert's owner has its cores for deciding. All of a node's commands for an owner share
//! one HTTP/2 stream, in order; what has gathered while the last bytes went out goes together. Questions to gates
//! share another.
//!
//! Reading order: [`wire`] and [`convert`] (what is said), [`connection`], [`lane`] (commands there and answers
//! back), [`feed`] (maps), [`mine`] (selections), [`gates`] (lines and passes), [`calls`] and [`memory`] (the rest), [`serve`] (the owner's end).

mod calls;
mod connection;
mod convert;
mod feed;
mod gates;
mod lane;
mod memory;
mod mine;
mod serve;
mod wire;

pub use self::calls::Caller;
pub use self::feed::follow;
pub use self::gates::{Tellers, hear};
pub use self::lane::Lanes;
pub use self::mine::listen;
pub use self::serve::service;
