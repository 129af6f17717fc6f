//! The gate's rules, a table each; and its draw.

mod draw;
mod rules;
mod script;
