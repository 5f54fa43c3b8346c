//! Just enough HTML to send the first form of a page.

/// The first form of a page.
pub(crate) struct PageForm {
    pub(crate) action: String,
    /// Names and values of its hidden fields.
    pub(crate) hidden: Vec<(String, String)>,
    /// Values of the buttons named `user`.
    pub(crate) users: Vec<String>,
}

impl PageForm {
    /// Whether this is the stand-in Entra's account chooser.
    pub(crate) fn is_chooser(&self) -> bool {
        self.hidden.iter().any(|(name, _)| name == "request") && self.action.ends_with("/login")
    }
}

/// Finds the first form; `None` when there is none.
pub(crate) fn first(html: &str) -> Option<PageForm> {
    let start = html.find("<form")?;
    let form = &html[start..];
    let form = &form[..form.find("</form>").unwrap_or(form.len())];
    let mut tags = form.split('<').filter_map(|piece| piece.split_once('>').map(|(tag, _)| tag));
    let action = attribute(tags.next()?, "action").unwrap_or_default();
    let (mut hidden, mut users) = (Vec::new(), Vec::new());
    for tag in tags {
        let Some(name) = attribute(tag, "name") else { continue };
        let value = attribute(tag, "value").unwrap_or_default();
        if tag.starts_with("input") && attribute(tag, "type").as_deref() == Some("hidden") {
            hidden.push((name, value));
        } else if tag.starts_with("button") && name == "user" {
            users.push(value);
        }
    }
    Some(PageForm { action, hidden, users })
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
    fn the_first_form_gives_action_hidden_fields_and_users() {
        // Entities in attributes are decoded.
        let html = "<form method=\"post\" action=\"/t/login\"><input type=\"hidden\" name=\"request\" \
                    value=\"a=1&amp;b=&quot;2&quot;\"><button name=\"user\" value=\"alice\">A</button></form>";
        let form = super::first(html).expect("there is a form");
        assert!(form.is_chooser());
        assert_eq!(form.hidden, [("request".to_owned(), "a=1&b=\"2\"".to_owned())]);
        assert_eq!(form.users, ["alice"]);
    }
}
