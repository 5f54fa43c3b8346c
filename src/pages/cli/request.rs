//! What a computer asks for through its browser: checked before anything is shown or sent anywhere.

use aws_lc_rs::digest::{SHA256, digest};
use url::form_urlencoded::Serializer;

use crate::pages::body::Fields;
use crate::pages::handover::client_name;
use crate::problem::Problem;

/// The addresses that are this computer, whatever its resolver says.
const IPV4: &str = "http://127.0.0.1:";
const IPV6: &str = "http://[::1]:";
const CALLBACK: &str = "/callback";
/// Lower ones belong to the system's own services.
const LEAST_PORT: u16 = 1_024;
const STATE_CHARS: std::ops::RangeInclusive<usize> = 22..=128;
/// A SHA-256 digest in base64url.
const CHALLENGE_CHARS: usize = 43;

/// A request that keeps the rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    state: String,
}

impl Request {
    pub(super) fn of_query(query: &str) -> Result<Self, Problem> {
        Self::of(&Fields::parse(query.as_bytes()))
    }

    pub(super) fn of(fields: &Fields) -> Result<Self, Problem> {
        let check = |is_right: bool, sentence: &str| {
            if is_right { Ok(()) } else { Err(Problem::bad_handover(sentence)) }
        };
        let field = |name| fields.get(name).unwrap_or_default();
        check(field("response_type") == "code", "response_type must be code.")?;
        check(field("code_challenge_method") == "S256", "code_challenge_method must be S256.")?;
        let (redirect_uri, challenge, state) =
            (field("redirect_uri"), field("code_challenge"), field("state"));
        let host = redirect_uri.strip_prefix("http://localhost");
        check(
            !host.is_some_and(|rest| rest.starts_with([':', '/'])),
            "redirect_uri must not be localhost, a name that may lead to another computer. Use http://127.0.0.1:PORT/callback.",
        )?;
        check(
            is_loopback(redirect_uri),
            "redirect_uri must be http://127.0.0.1:PORT/callback or http://[::1]:PORT/callback, with a port from 1024.",
        )?;
        check(
            challenge.len() == CHALLENGE_CHARS && challenge.bytes().all(|byte| is_url_safe(byte, b"-_")),
            "code_challenge must have 43 characters of base64url.",
        )?;
        check(
            STATE_CHARS.contains(&state.len()) && state.bytes().all(|byte| is_url_safe(byte, b"-_.~")),
            "state must have 22 to 128 URL-safe characters.",
        )?;
        check(
            !fields.has("client_name") || fields.get("client_name").is_some(),
            "client_name must be given once.",
        )?;
        Ok(Self {
            name: client_name(fields)?,
            redirect_uri: redirect_uri.to_owned(),
            challenge: challenge.to_owned(),
            state: state.to_owned(),
        })
    }

    /// What the page and the terminal both show: whoever led somebody else's browser here has another one.
    pub(super) fn number(&self) -> String {
        let digest = digest(&SHA256, format!("entrada number:{}", self.challenge).as_bytes());
        let first = digest.as_ref().iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        format!("{:04}", first % 10_000)
    }

    /// The same request, to be sent with the answer.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("response_type", "code"),
            ("redirect_uri", &self.redirect_uri),
            ("state", &self.state),
            ("code_challenge", &self.challenge),
            ("code_challenge_method", "S256"),
            ("client_name", &self.name),
        ]
    }

    pub(super) fn query(&self) -> String {
        Serializer::new(String::new()).extend_pairs(self.fields()).finish()
    }

    /// Where the browser takes the outcome.
    pub(super) fn location(&self, outcome: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(outcome).append_pair("state", &self.state);
        format!("{}?{}", self.redirect_uri, query.finish())
    }

    /// The same as a source of a content security policy, which cannot name an IPv6 address.
    pub(super) fn form_target(&self) -> String {
        let origin = self.redirect_uri.trim_end_matches(CALLBACK);
        if origin.starts_with(IPV4) { origin.to_owned() } else { "http:".to_owned() }
    }
}

/// Compared as text: two parsers never read it in two ways.
fn is_loopback(redirect_uri: &str) -> bool {
    let rest = redirect_uri.strip_prefix(IPV4).or_else(|| redirect_uri.strip_prefix(IPV6));
    let port = rest.and_then(|rest| rest.strip_suffix(CALLBACK)).unwrap_or_default();
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    is_plain && port.parse::<u16>().is_ok_and(|port| port >= LEAST_PORT)
}

fn is_url_safe(byte: u8, others: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || others.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn request(change: &[(&str, &str)]) -> Result<Request, Problem> {
        let given = [
            ("response_type", "code"),
            ("redirect_uri", "http://127.0.0.1:51234/callback"),
            ("state", "0123456789abcdefghij_-"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("client_name", "alice-laptop"),
        ];
        let is_kept = |name: &str| change.iter().all(|(other, _)| *other != name);
        let kept = given.iter().filter(|(name, _)| is_kept(name));
        Request::of_query(&Serializer::new(String::new()).extend_pairs(kept).extend_pairs(change).finish())
    }

    /// A request is shown and sent on as it came; the number is the one that the terminal computes.
    #[test]
    fn a_request_is_read_and_written_alike() {
        let read = request(&[]).unwrap();
        assert_eq!(Request::of_query(&read.query()).unwrap(), read);
        let location = read.location(&[("code", "code_1")]);
        assert_eq!(location, "http://127.0.0.1:51234/callback?code=code_1&state=0123456789abcdefghij_-");
        assert_eq!(read.form_target(), "http://127.0.0.1:51234");
        // printf 'entrada number:E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' | sha256sum
        assert_eq!(read.number(), "6924");
        let six = request(&[("redirect_uri", "http://[::1]:1024/callback")]).unwrap();
        assert_eq!(six.form_target(), "http:");
        assert_eq!(request(&[("client_name", "")]).unwrap_err().refusal().status, 400);
    }

    /// Nothing but this computer gets the outcome, however it is written.
    #[test]
    fn only_loopback_addresses_are_led_to() {
        for elsewhere in [
            "https://127.0.0.1:51234/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:80/callback",
            "http://127.0.0.1:051234/callback",
            "http://127.0.0.1:+51234/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:51234/callback/",
            "http://127.0.0.1:51234/callback?x=1",
            "http://127.0.0.1:51234/callback#x",
            "http://127.0.0.1:51234/elsewhere",
            "http://127.0.0.1:51234@evil.com/callback",
            "http://127.0.0.1:51234\\@evil.com/callback",
            "http://user@127.0.0.1:51234/callback",
            "http://127.0.0.1.evil.com:51234/callback",
            "http://127.0.0.2:51234/callback",
            "http://0x7f000001:51234/callback",
            "http://2130706433:51234/callback",
            "http://[::ffff:127.0.0.1]:51234/callback",
            "http://[::1%25lo]:51234/callback",
            "HTTP://127.0.0.1:51234/callback",
            " http://127.0.0.1:51234/callback",
            "javascript:alert(1)//127.0.0.1:51234/callback",
            "http://localhost:51234/callback",
            "",
        ] {
            assert!(request(&[("redirect_uri", elsewhere)]).is_err(), "{elsewhere}");
        }
        let problem = request(&[("redirect_uri", "http://localhost:51234/callback")]).unwrap_err();
        assert!(problem.refusal().sentence.contains("may lead to another computer"));
        let twice = [
            ("redirect_uri", "http://127.0.0.1:2000/callback"),
            ("redirect_uri", "http://127.0.0.1:3000/callback"),
        ];
        assert!(request(&twice).is_err(), "two addresses");
    }

    /// What is too short, too long or not of its alphabet is refused; so is a name that plays with the page's text.
    #[test]
    fn every_field_is_bounded() {
        let (long, name) = ("a".repeat(129), "n".repeat(65));
        for (field, value) in [
            ("response_type", "token"),
            ("code_challenge_method", "plain"),
            ("code_challenge", &CHALLENGE[1..]),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM"),
            ("state", "short"),
            ("state", &long),
            ("state", "0123456789abcdefghij&="),
            ("client_name", &name),
            ("client_name", "two\nlines"),
            ("client_name", "gnp.\u{202e}txt"),
            ("client_name", "zero\u{200b}width"),
        ] {
            assert!(request(&[(field, value)]).is_err(), "{field}: {value}");
        }
    }
}
