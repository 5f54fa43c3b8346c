//! The questions, one file for each.

pub mod cpu;
pub mod flat;
pub mod handshakes;
pub mod latency;
pub mod start;
pub mod tunnels;
pub mod watches;
