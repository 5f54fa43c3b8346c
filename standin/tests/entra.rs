//! The stand-in Entra, driven through the scripted browser and by raw requests.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "entra/browser.rs"]
mod browser;
#[path = "entra/desk.rs"]
mod desk;
#[path = "entra/faults.rs"]
mod faults;
#[path = "entra/policy.rs"]
mod policy;
#[path = "entra/signin.rs"]
mod signin;
#[path = "entra/tokens.rs"]
mod tokens;
