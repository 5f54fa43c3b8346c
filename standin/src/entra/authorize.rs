//! `/authorize` and the chooser's form: a browser signs in.

mod ask;
pub(crate) mod cookie;

use http::Response;
use http::request::Parts;

use ask::{Ask, Prompt, Target};

use super::errors::{Refusal, Telling};
use super::form::Form;
use super::page::{self, Choice};
use super::session::{Code, SignIn};
use super::state::{Shared, State};
use super::users::User;
use super::{policy, random, routes};
use crate::serve::Body;

/// What to do with a browser that came to `/authorize`.
enum Step {
    /// This user is known; the cookie value, where the browser is to keep the sign-in.
    SignedIn(SignIn, Option<String>),
    /// Somebody must look at the chooser.
    Ask,
    /// Back to the app with an error.
    Back(Refusal),
    /// An error that stays on the tenant's page.
    Stay(Refusal),
}

/// `GET /authorize`.
pub(crate) fn ask(shared: &Shared, parts: &Parts) -> anyhow::Result<Response<Body>> {
    answer(shared, parts, parts.uri.query().unwrap_or_default(), None)
}

/// A scripted refusal: back to the app where the request names a redirect URI of the app, else on the page.
pub(crate) fn refused(shared: &Shared, parts: &Parts, refusal: &Refusal) -> anyhow::Result<Response<Body>> {
    let state = shared.lock();
    let telling = routes::telling(shared, &state, &parts.headers);
    let form = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
    match Target::parse(shared, &state, &form) {
        Ok(target) => target.error(refusal, &telling),
        Err(_) => page::refusal(refusal, &telling, None),
    }
}

/// The chooser's form came back: with a user, or cancelled.
pub(crate) fn chosen(shared: &Shared, parts: &Parts, body: &[u8]) -> anyhow::Result<Response<Body>> {
    let form = Form::parse(body);
    let choice = form.get("user").unwrap_or_default();
    answer(shared, parts, form.get("request").unwrap_or_default(), Some(choice))
}

/// On the chooser, the newest: with thousands of users, the page would be most of what a sign-in costs. Others may be named
/// all the same.
const MAX_LISTED: usize = 50;

/// `choice`: what the chooser's form said, `""` for cancelled; `None` when the browser comes from the app.
fn answer(
    shared: &Shared,
    parts: &Parts,
    query: &str,
    choice: Option<&str>,
) -> anyhow::Result<Response<Body>> {
    let mut state = shared.lock();
    let telling = routes::telling(shared, &state, &parts.headers);
    let form = Form::parse(query.as_bytes());
    let target = match Target::parse(shared, &state, &form) {
        Ok(target) => target,
        Err(refusal) => return page::refusal(&refusal, &telling, None),
    };
    let ask = match Ask::parse(&form) {
        Ok(ask) => ask,
        Err(refusal) => return target.error(&refusal, &telling),
    };
    let step = match choice {
        Some("") => return target.cancelled(),
        Some(name) => step_of_choice(shared, &mut state, parts, &ask, name),
        None => step_of_arrival(shared, &state, parts, &form, &ask),
    };
    match step {
        Step::SignedIn(sign_in, cookie) => {
            complete(shared, &mut state, &target, &ask, &telling, &sign_in, cookie.as_deref())
        }
        Step::Ask => show_chooser(shared, &state, query, &ask),
        Step::Back(refusal) => target.error(&refusal, &telling),
        Step::Stay(refusal) => page::refusal(&refusal, &telling, None),
    }
}

/// The browser comes from the app: does it need the chooser?
fn step_of_arrival(shared: &Shared, state: &State, parts: &Parts, form: &Form, ask: &Ask) -> Step {
    if let Some(name) = form.get("standin_user").or(state.direct.as_deref()) {
        return match state.user(name) {
            Some(user) => Step::SignedIn(fresh(shared, state, user, ask), None),
            None => Step::Stay(Refusal::new(50_034, format!("There is no account '{name}' here."))),
        };
    }
    let sso = cookie::value(&parts.headers).and_then(|value| state.sso.get(&value));
    let sso = sso.filter(|sign_in| policy::check_account(state, sign_in).is_ok());
    let sso = sso.filter(|sign_in| {
        let user = state.user(&sign_in.user);
        ask.login_hint.as_deref().is_none_or(|hint| user.is_some_and(|user| user.answers_to(hint)))
    });
    let recent = sso.filter(|sign_in| {
        let now = shared.time.now();
        policy::check_frequency(&state.policy, sign_in.auth_time, now).is_ok()
            && ask.max_age.is_none_or(|seconds| now.duration_since(sign_in.auth_time).as_secs() < seconds)
    });
    match (recent, ask.prompt) {
        (Some(sign_in), Prompt::Auto | Prompt::Silent) if sign_in.mfa || !needs_mfa(state, ask) => {
            Step::SignedIn(sign_in.clone(), None)
        }
        (Some(_), Prompt::Silent) => {
            let refusal = Refusal::new(50_076, "Policy demands a second factor, which needs the user.");
            Step::Back(refusal.with_error("interaction_required").with_claims(policy::claims_challenge()))
        }
        (None, Prompt::Silent) => {
            Step::Back(Refusal::new(50_058, "Nobody is signed in here, and the request forbids to ask."))
        }
        _ => Step::Ask,
    }
}

/// Somebody was picked on the chooser: the browser stays signed in at the tenant from now on.
fn step_of_choice(shared: &Shared, state: &mut State, parts: &Parts, ask: &Ask, name: &str) -> Step {
    let Some(user) = state.user(name) else {
        return Step::Stay(Refusal::new(50_034, format!("There is no account '{name}' here.")));
    };
    let mut sign_in = fresh(shared, state, user, ask);
    let earlier = cookie::value(&parts.headers).and_then(|value| state.sso.remove(&value));
    if let Some(earlier) = earlier.filter(|earlier| earlier.user == name) {
        sign_in.sid = earlier.sid;
        sign_in.mfa |= earlier.mfa;
    }
    let value = random::token(48);
    state.sso.insert(value.clone(), sign_in.clone());
    Step::SignedIn(sign_in, Some(value))
}

fn fresh(shared: &Shared, state: &State, user: &User, ask: &Ask) -> SignIn {
    SignIn {
        user: user.name.clone(),
        sid: random::guid(),
        auth_time: shared.time.now(),
        mfa: needs_mfa(state, ask),
    }
}

/// Conditional Access looks at the resources that the request names, and at the claims that it presents.
fn needs_mfa(state: &State, ask: &Ask) -> bool {
    let challenged = ask.claims.as_ref().is_some_and(policy::answers_challenge);
    challenged || (state.policy.mfa && ask.scopes.names_aks())
}

fn show_chooser(shared: &Shared, state: &State, query: &str, ask: &Ask) -> anyhow::Result<Response<Body>> {
    let hint = ask.login_hint.as_deref();
    let choice = |user: &User| Choice {
        name: user.name.clone(),
        label: format!("{} ({})", user.display_name, user.username),
        preselected: hint.is_some_and(|hint| user.answers_to(hint)),
    };
    let newest = state.users.len().saturating_sub(MAX_LISTED);
    let choices: Vec<Choice> = state.users.iter().skip(newest).map(choice).collect();
    let notice = if needs_mfa(state, ask) {
        "Picking an account also approves the second factor that this application demands."
    } else {
        "to continue to the application"
    };
    page::chooser(&format!("/{}/login", shared.tenant()), query, &choices, notice)
}

/// Who it is, is settled: may they come in, and if so, with which code?
fn complete(
    shared: &Shared,
    state: &mut State,
    target: &Target,
    ask: &Ask,
    telling: &Telling,
    sign_in: &SignIn,
    cookie: Option<&str>,
) -> anyhow::Result<Response<Body>> {
    let silent = ask.prompt == Prompt::Silent;
    let mut answer = match verdict(shared, state, ask, sign_in) {
        Ok(()) => {
            let code = random::grant(640);
            state.record.secret(&code);
            state.codes.insert(code.clone(), ask.code(target, sign_in, shared.time.now()));
            target.success(&code, sign_in, state.user(&sign_in.user).filter(|_| ask.client_info))?
        }
        Err(refusal) => match refusal.code {
            // The app's registration is wrong: that goes back to the app.
            650_057 | 500_011 => target.error(&refusal, telling)?,
            65_001 if silent => target.error(&refusal.with_error("consent_required"), telling)?,
            _ if silent => target.error(&refusal.with_error("interaction_required"), telling)?,
            65_001 => {
                let wall = Refusal::new(
                    90_094,
                    "The application needs consent that only an administrator can give.",
                );
                page::refusal(&wall, telling, Some(&target.cancelled_url()))?
            }
            _ => page::refusal(&refusal, telling, None)?,
        },
    };
    if let Some(value) = cookie {
        answer.headers_mut().append("set-cookie", cookie::keeping(value)?);
    }
    Ok(answer)
}

/// Account, assignment, consent and blocks, for the resources that the request names.
fn verdict(shared: &Shared, state: &State, ask: &Ask, sign_in: &SignIn) -> Result<(), Refusal> {
    let user = policy::check_account(state, sign_in)?;
    if !user.assigned {
        return Err(policy::unassigned(shared));
    }
    for resource in ask.scopes.resources() {
        policy::check_resource(shared, &state.policy, &ask.scopes, resource)?;
    }
    if state.policy.blocked && ask.scopes.names_aks() {
        return Err(policy::blocked());
    }
    Ok(())
}

impl Ask {
    fn code(&self, target: &Target, sign_in: &SignIn, issued: jiff::Timestamp) -> Code {
        Code {
            sign_in: sign_in.clone(),
            redirect_uri: target.redirect_uri.clone(),
            scopes: self.scopes.clone(),
            nonce: self.nonce.clone(),
            challenge: self.challenge.clone(),
            issued,
            used: false,
        }
    }
}
