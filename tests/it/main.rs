//! Whole servers, one binary: each area is a module, so that all of them link once.

mod api;
