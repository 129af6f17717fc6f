//! The gate's rules, a table each; its draw; and its simulator.

mod draw;
mod rules;
mod script;
mod simulator;
