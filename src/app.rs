//! (Scaffold.)
