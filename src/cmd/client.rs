//! `entrada login`, `entrada credential`, `entrada logout`: what they are asked for, and how they end.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::client::{self, Failure, Login};

const LOGIN_EXAMPLES: &str = "\
Examples:
  entrada login k8s.example.com              sign in with the browser of this computer
  entrada login k8s.example.com --device     over SSH or in a container: type a code on another device
  entrada login k8s.example.com --context prod

Exit codes: 0 signed in; 1 the server, the network or a file; 64 usage; 4 refused in the browser; 5 nobody answered in
time; 130 Ctrl-C.";

const CREDENTIAL_EXAMPLES: &str = "\
kubectl runs this by itself: `entrada login` writes the kubeconfig entry that says so.

Exit codes: 0 a token was printed; 1 the server, the network or a file; 64 usage; 3 somebody has to run `entrada login`;
4 refused in the browser; 5 nobody answered in time; 130 Ctrl-C.";

const LOGOUT_EXAMPLES: &str = "\
Examples:
  entrada logout                                    where this computer is signed in to one cluster
  entrada logout k8s.example.com --remove-context

Your session in the browser goes on: end it on the portal, at the cluster's address.

Exit codes: 0 signed out; 1 the server, the network or a file; 64 usage; 130 Ctrl-C.";

#[derive(Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(super) struct LoginArgs {
    /// The cluster's address, as your platform team gave it to you: k8s.example.com
    #[arg(value_hint = ValueHint::Url)]
    url: String,
    /// Show a code to type on another device; so it is by itself over SSH, and where there is no browser
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Print the address that a browser on this computer must open, and open none
    #[arg(long)]
    no_browser: bool,
    /// Name of the context [default: the cluster's name]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// File to write the context to [default: as kubectl: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// Certificate authority to trust beside the system's, in PEM
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    ca_file: Option<PathBuf>,
    /// Give up after this long, such as `30s` [default: `5m`, the longest]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
#[command(after_help = CREDENTIAL_EXAMPLES)]
pub(super) struct CredentialArgs {
    /// The cluster's address, such as `https://k8s.example.com`
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    server: String,
}

#[derive(Args)]
#[command(after_help = LOGOUT_EXAMPLES)]
pub(super) struct LogoutArgs {
    /// The cluster's address [default: the one cluster that this computer is signed in to]
    #[arg(value_hint = ValueHint::Url)]
    url: Option<String>,
    /// Also remove its context, user and cluster from the kubeconfig
    #[arg(long)]
    remove_context: bool,
    /// File to remove them from [default: as kubectl]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
}

pub(super) fn login(args: LoginArgs) -> ExitCode {
    let LoginArgs { url: server, device, no_browser, context, kubeconfig, ca_file, wait } = args;
    finish(client::login(Login { server, device, no_browser, context, kubeconfig, ca_file, wait }))
}

pub(super) fn credential(args: &CredentialArgs) -> ExitCode {
    finish(client::credential(&args.server))
}

pub(super) fn logout(args: LogoutArgs) -> ExitCode {
    finish(client::logout(args.url.as_deref(), args.remove_context, args.kubeconfig))
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _closed = writeln!(std::io::stderr(), "entrada: {}", failure.sentence);
            ExitCode::from(failure.exit as u8)
        }
    }
}
