//! `entrada logout`: the token is revoked and forgotten.

use std::path::PathBuf;

use super::api::Api;
use super::cache::Cache;
use super::kubeconfig::Kubeconfig;
use super::server::Server;
use super::talk::Talk;
use super::{Exit, Failure};

/// Without a server: the one that there is. `remove_context`: also what `login` put into the kubeconfig.
pub(crate) fn logout(
    server: Option<&str>,
    remove_context: bool,
    kubeconfig: Option<PathBuf>,
) -> Result<(), Failure> {
    let (server, talk) = (server.map_or_else(only_one, Server::parse)?, Talk::new());
    let cache = Cache::of(&server)?;
    let kubeconfig = Kubeconfig::find(kubeconfig)?;
    super::run(async {
        let _lock = cache.settled(talk).await;
        let known = cache.read();
        let revoked = match &known {
            Some(known) => {
                let authority = known.authority.clone().or_else(|| kubeconfig.authority(&server));
                let api = Api::new(&server, authority.as_deref());
                match api {
                    Ok(api) => api.revoke(&known.token).await,
                    Err(failure) => Err(failure),
                }
            }
            None => Ok(()),
        };
        cache.forget().map_err(|error| {
            Failure::failed(format!("{} cannot be removed: {error}.", cache.file("json").display()))
        })?;
        if remove_context {
            kubeconfig.remove(server.origin(), talk).await?;
        }
        match (revoked, known) {
            (Err(failure), _) => Err(failure.with(&format!(
                "The token was removed from this computer, but not revoked: do that at {}",
                server.origin()
            ))),
            (Ok(()), Some(_)) => {
                talk.say(format!("Signed out of {}.", server.origin()));
                Ok(())
            }
            (Ok(()), None) => {
                talk.say(format!("There was no token of {} on this computer.", server.origin()));
                Ok(())
            }
        }
    })
}

fn only_one() -> Result<Server, Failure> {
    let mut servers = Cache::servers();
    match (servers.pop(), servers.as_slice()) {
        (Some(server), []) => Ok(server),
        (None, _) => Err(Failure::new(Exit::Usage, "Nobody is signed in on this computer.")),
        (Some(last), others) => {
            let names: Vec<_> = others.iter().chain([&last]).map(Server::origin).collect();
            let sentence = format!("There are several sign-ins, name one: {}", names.join(" "));
            Err(Failure::new(Exit::Usage, sentence))
        }
    }
}
