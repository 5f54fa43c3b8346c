//! The tenant's own pages: the account chooser and the refusals that never reach the app.

use http::Response;

use super::errors::{Refusal, Telling};
use crate::serve::{Body, full};

/// One account on the chooser.
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) preselected: bool,
}

/// The chooser. `query` is the authorization request as it came; it returns with the form.
pub(crate) fn chooser(
    action: &str,
    query: &str,
    choices: &[Choice],
    notice: &str,
) -> anyhow::Result<Response<Body>> {
    let buttons: String = choices
        .iter()
        .map(|choice| {
            let focus = if choice.preselected { " autofocus" } else { "" };
            format!(
                "<p><button name=\"user\" value=\"{}\"{focus}>{}</button></p>\n",
                escape(&choice.name),
                escape(&choice.label)
            )
        })
        .collect();
    let body = format!(
        "<h1>Pick an account</h1>\n<p>{}</p>\n<form method=\"post\" action=\"{}\">\n\
         <input type=\"hidden\" name=\"request\" value=\"{}\">\n{buttons}\
         <p><button name=\"cancel\" value=\"1\" class=\"quiet\">Cancel</button></p>\n</form>",
        escape(notice),
        escape(action),
        escape(query),
    );
    html(200, "Sign in", &body)
}

/// A refusal that the user sees here and the app never hears of. `back`: where a link leads that gives up.
pub(crate) fn refusal(
    refusal: &Refusal,
    telling: &Telling,
    back: Option<&str>,
) -> anyhow::Result<Response<Body>> {
    let link = back.map_or_else(String::new, |url| {
        format!("<p><a href=\"{}\">Return to the application without granting consent</a></p>", escape(url))
    });
    let text = escape(&refusal.description(telling));
    html(
        400,
        "Sorry, that did not work",
        &format!("<h1>Sorry, that did not work</h1>\n<p>{text}</p>\n{link}"),
    )
}

/// Said after a sign-out. `frame` is loaded, so that the app hears of it; `next` is where the browser then goes.
pub(crate) fn signed_out(frame: Option<&str>, next: Option<&str>) -> anyhow::Result<Response<Body>> {
    let frame =
        frame.map_or_else(String::new, |url| format!("<iframe hidden src=\"{}\"></iframe>\n", escape(url)));
    let next = next.map_or_else(
        || "<p>You may close this window.</p>".to_owned(),
        |url| {
            let url = escape(url);
            format!(
                "<meta http-equiv=\"refresh\" content=\"2;url={url}\">\n<p><a href=\"{url}\">Continue</a></p>"
            )
        },
    );
    html(200, "Signed out", &format!("<h1>You are signed out</h1>\n{frame}{next}"))
}

fn html(status: u16, title: &str, body: &str) -> anyhow::Result<Response<Body>> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n\
         body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 12vh auto; padding: 0 1rem }}\n\
         button {{ font: inherit; width: 100%; padding: .6rem 1rem; text-align: left; cursor: pointer }}\n\
         .quiet {{ border: 0; background: none; text-decoration: underline }}\n</style>\n</head>\n<body>\n\
         <p><small>Stand-in for Microsoft Entra: everyone here is invented.</small></p>\n{body}\n</body>\n</html>\n"
    );
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/html; charset=utf-8")
        .header("cache-control", "no-store, no-cache")
        .header("x-frame-options", "DENY")
        .body(full(page))?)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
