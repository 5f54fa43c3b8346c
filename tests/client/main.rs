//! `entrada login`, `credential` and `logout` as a person and kubectl meet them, against a server that speaks the
//! hand-over protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod credential;
mod fake;
mod help;
mod home;
mod kubeconfig;
mod login;
mod logout;
mod support;
