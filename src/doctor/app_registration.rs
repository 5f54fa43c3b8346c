//! The app registration, as far as it can be seen without a user: does Entra accept the workload identity, is the
//! redirect URI registered, does the tenant know the AKS server?

use super::authority;
use super::federated_token::Claims;
use super::finding::{Check, Finding};
use crate::config::EntraConfig;
use crate::entra::{AKS_SERVER_APP_ID, Class, EntraFault, Registration};

pub(super) const ASSERTION: &str = "client_assertion";
pub(super) const REDIRECT_URI: &str = "redirect_uri";
pub(super) const PERMISSION: &str = "aks_permission";

/// Microsoft's page about one error.
const LOOKUP: &str = "https://login.microsoftonline.com/error?code=";

/// The app registration, and who presents itself as it.
pub(super) struct App<'a> {
    pub(super) config: &'a EntraConfig,
    pub(super) claims: Claims,
    pub(super) consent_url: String,
    pub(super) redirect_uri: String,
    pub(super) clock_is_right: bool,
}

impl App<'_> {
    /// One answer tells of two things: Entra looks at the client first, and at what it asks for afterwards.
    pub(super) fn assertion(
        &self,
        answer: Option<Result<(), EntraFault>>,
        blocker: &'static str,
    ) -> [Check; 2] {
        let later = |because_of| Check::skipped(PERMISSION, because_of);
        let refusal = match answer {
            None => return [Check::skipped(ASSERTION, blocker), later(blocker)],
            Some(Ok(())) => return [self.accepted(), tenant_knows_aks()],
            Some(Err(refusal)) => refusal,
        };
        match (refusal.code, refusal.class) {
            // Of times that differ, the clock's check has told.
            (Some(700_024), _) if !self.clock_is_right => {
                [Check::skipped(ASSERTION, authority::CLOCK), later(authority::CLOCK)]
            }
            (Some(500_011 | 50_001), _) => [self.accepted(), self.aks_is_unknown()],
            (Some(65001 | 65005 | 650_052 | 650_056 | 650_057 | 90094 | 90095 | 90008), _) => {
                [self.accepted(), self.is_not_listed(&refusal)]
            }
            // A policy about workload identities, an assignment: decided after the client is known.
            (_, Class::Admin | Class::Transient) => [self.refused(&refusal), later(ASSERTION)],
            _ => [self.accepted(), self.is_blocked(&refusal)],
        }
    }

    fn accepted(&self) -> Check {
        Check::fine(ASSERTION, format!("Entra accepts it as the app {}", self.config.client_id))
    }

    fn refused(&self, refusal: &EntraFault) -> Check {
        let Claims { issuer, subject, audience, .. } = &self.claims;
        let client = &self.config.client_id;
        let credential = format!(
            "give the app a federated credential with exactly issuer {issuer}, subject {subject}, audience {audience}; \
             a new one takes some minutes to spread"
        );
        let mismatch = |what: &str| format!("no federated credential of the app {client} has this {what}");
        let (seen, fix) = match refusal.code {
            Some(70_025) => (format!("the app {client} has no federated credential"), credential),
            Some(70_021) => (mismatch("issuer, subject and audience"), credential),
            Some(700_211) => (mismatch(&format!("issuer: {issuer}")), credential),
            Some(700_212) => (mismatch(&format!("audience: {audience}")), credential),
            Some(700_213) => (mismatch(&format!("subject: {subject}")), credential),
            Some(90_061) => (
                format!("Entra cannot fetch the keys of {issuer}"),
                "the cluster's OIDC issuer must be public: az aks update --enable-oidc-issuer".to_owned(),
            ),
            Some(50_027 | 700_027) => (
                format!("no key of {issuer} has signed the token"),
                "the file is not this cluster's token, or the issuer's keys were rotated: make the pod anew".to_owned(),
            ),
            Some(700_024) => (
                "the token is outside of its time".to_owned(),
                "see that the kubelet replaces it, and that the cluster's clocks are right".to_owned(),
            ),
            Some(700_016 | 700_038 | 70_001) => (
                format!("the tenant {} has no app {client}", self.config.tenant_id),
                "set AZURE_CLIENT_ID to the app registration's client id (not an object id, not a managed identity's), \
                 and AZURE_TENANT_ID to the tenant that it is in"
                    .to_owned(),
            ),
            Some(7_000_112) => (
                format!("the app {client} is disabled"),
                "enable it: Enterprise applications, Properties, Enabled for users to sign in".to_owned(),
            ),
            Some(7_000_218 | 7_000_215 | 7_000_222 | 70_002 | 700_025 | 9_002_326 | 9_002_327) => (
                format!("the app {client} is no confidential web app"),
                "in the app registration, under Authentication: platform Web (not SPA), public client flows off".to_owned(),
            ),
            _ if refusal.class == Class::Transient => {
                (format!("Entra does not answer as it should ({})", refusal.error), "try again in a minute".to_owned())
            }
            _ => (refusal.error.clone(), refusal.sentence.clone()),
        };
        Check::fault(ASSERTION, told(refusal, &seen), fix)
    }

    fn aks_is_unknown(&self) -> Check {
        let seen = "the tenant does not know \"Azure Kubernetes Service AAD Server\"";
        let fix = format!("make it known: az ad sp create --id {AKS_SERVER_APP_ID}");
        Check::fault(PERMISSION, format!("AADSTS500011: {seen}"), fix)
    }

    fn is_not_listed(&self, refusal: &EntraFault) -> Check {
        let seen = "the app may not ask for \"Azure Kubernetes Service AAD Server\"";
        let fix = format!("add its permission user.read to the app, and consent to it: {}", self.consent_url);
        Check::fault(PERMISSION, told(refusal, seen), fix)
    }

    fn is_blocked(&self, refusal: &EntraFault) -> Check {
        let code = refusal.code.unwrap_or_default();
        let seen =
            told(refusal, &format!("Entra gives the app no token for the AKS server ({})", refusal.error));
        let fix = format!(
            "look for Conditional Access for workload identities, or a required assignment: {LOOKUP}{code}"
        );
        Check::fault(PERMISSION, seen, fix)
    }

    /// `assertion`: an app that is not there has no redirect URIs either.
    pub(super) fn redirect_uri(&self, answer: Option<Registration>, assertion: &Check) -> Check {
        let uri = &self.redirect_uri;
        let finding = match answer {
            None => Finding::Skipped(authority::NAME),
            Some(Registration::Registered) => {
                Finding::fine(format!("Entra answers to {uri}, which it does for registered ones only"))
            }
            Some(Registration::Refused(50_011 | 500_113 | 900_971)) => Finding::fault(
                format!("AADSTS50011: {uri} is not registered"),
                format!("add it to the app under Authentication, platform Web: {uri}"),
            ),
            Some(Registration::Refused(_)) if assertion.is_fault() => Finding::Skipped(ASSERTION),
            Some(Registration::Refused(code)) => Finding::fault(
                format!("Entra refused a sign-in with AADSTS{code}"),
                format!("see {LOOKUP}{code}"),
            ),
            Some(Registration::Unclear(why)) => {
                Finding::fine(format!("cannot be seen without a user ({why}); expected: {uri}, platform Web"))
            }
        };
        Check { name: REDIRECT_URI, finding }
    }
}

fn tenant_knows_aks() -> Check {
    let seen = "the tenant knows the AKS server; whether an administrator consented to user.read cannot be seen \
                without a user";
    Check::fine(PERMISSION, seen)
}

fn told(refusal: &EntraFault, seen: &str) -> String {
    match refusal.code {
        Some(code) => format!("AADSTS{code}: {seen} (correlation id {})", refusal.correlation_id),
        None => seen.to_owned(),
    }
}
