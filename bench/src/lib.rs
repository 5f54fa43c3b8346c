//! What Entrada costs: beside nginx and HAProxy (`make bench`), and against figures that are kept (`make bench-guard`).
//!
//! The proxies are processes of their own, so that what the kernel tells of them is theirs alone. This process is the
//! stand-in Entra, a fast API server ([`upstream`]) and the clients of whatever `wrk` and `h2load` cannot do.
//!
//! [`measure`] holds one file for each question. Each of them takes its proxies in turn, round after round, so that
//! whatever else the machine does meets all of them; what counts is the median of the rounds.

pub mod chart;
pub mod client;
pub mod figures;
pub mod kept;
pub mod load;
pub mod measure;
pub mod page;
pub mod plan;
pub mod process;
pub mod proxies;
pub mod upstream;
pub mod world;
