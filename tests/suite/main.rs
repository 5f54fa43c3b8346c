//! The whole of Entrada between a stand-in Entra, a stand-in API server and real clients, over real TLS on loopback.
//!
//! Each test builds a [`support::World`] of its own. When a world ends, everything that was logged so far is searched
//! for every secret that was used so far, and the API server's records for requests that were not their user's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod support;
mod tabs;

mod audit;
mod audit_process;
mod broker;
mod certificates;
mod chromium;
mod copy;
mod cors;
mod credentials;
mod dashboards;
mod doctor;
mod drain;
mod early;
mod endings;
mod full_pipe;
mod handover;
mod hour;
mod install;
mod kubeconfigs;
mod kubectl;
mod limits;
mod management;
mod metrics;
mod monitoring;
mod mounts;
mod port_forward;
mod process;
mod proxy;
mod redemptions;
mod reload;
mod replicas;
mod set_back;
mod sign_in;
mod store_login;
mod streams;
mod tracing;
mod troubles;
mod upgrade;
mod upkeep;
