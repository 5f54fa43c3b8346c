//! Just enough HTML to send a page's forms and load its frames.

/// A form, as far as it is filled in already.
pub(crate) struct PageForm {
    pub(crate) action: String,
    /// Names and values of its hidden fields.
    pub(crate) hidden: Vec<(String, String)>,
}

impl PageForm {
    /// Whether this is the stand-in Entra's account chooser.
    pub(crate) fn is_chooser(&self) -> bool {
        self.hidden.iter().any(|(name, _)| name == "request") && self.action.ends_with("/login")
    }
}

/// All forms of a page, in their order.
pub(crate) fn all(html: &str) -> Vec<PageForm> {
    html.split("<form").skip(1).filter_map(|piece| one(piece.split("</form>").next()?)).collect()
}

/// A form from the text after `<form`.
fn one(text: &str) -> Option<PageForm> {
    let (opening, inside) = text.split_once('>')?;
    let action = attribute(opening, "action").unwrap_or_default();
    let mut hidden = Vec::new();
    for tag in inside.split('<').filter_map(|piece| piece.split_once('>').map(|(tag, _)| tag)) {
        let Some(name) = attribute(tag, "name") else { continue };
        if tag.starts_with("input") && attribute(tag, "type").as_deref() == Some("hidden") {
            hidden.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }
    Some(PageForm { action, hidden })
}

/// The sources of a page's frames.
pub(crate) fn frames(html: &str) -> Vec<String> {
    let tags = html.split("<iframe").skip(1).filter_map(|piece| piece.split_once('>').map(|(tag, _)| tag));
    tags.filter_map(|tag| attribute(tag, "src")).collect()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let end = tag[start..].find('"')?;
    Some(unescape(&tag[start..start + end]))
}

fn unescape(text: &str) -> String {
    let numeric = text.replace("&#x2f;", "/").replace("&#x27;", "'").replace("&#39;", "'");
    numeric.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_form_gives_action_and_hidden_fields() {
        // Entities in attributes are decoded.
        let html = "<form method=\"post\" action=\"/t/login\"><input type=\"hidden\" name=\"request\" \
                    value=\"a=1&amp;b=&quot;2&quot;\"></form><form action='x'></form><form method=\"post\" action=\"/two\"></form>";
        let forms = super::all(html);
        let form = &forms[0];
        assert!(form.is_chooser());
        assert_eq!(form.hidden, [("request".to_owned(), "a=1&b=\"2\"".to_owned())]);
        assert_eq!((forms.len(), forms[2].action.as_str()), (3, "/two"));
    }
}
