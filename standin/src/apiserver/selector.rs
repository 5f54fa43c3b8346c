//! Label and field selectors of lists and watches. Pure.

use serde_json::Value;

use super::query::Query;
use super::status::Failure;

/// Requirements that an object must meet, all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Selector {
    pub(crate) fn asked(query: &Query) -> Result<Self, Failure> {
        let labels = parse(query.get("labelSelector").unwrap_or_default())?;
        let fields = parse(query.get("fieldSelector").unwrap_or_default())?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|one| one.is_met(|key| labels.get(key)))
            && self.fields.iter().all(|one| one.is_met(|key| field(object, key)))
    }
}

impl Requirement {
    fn is_met<'a>(&self, value_of: impl Fn(&str) -> Option<&'a Value>) -> bool {
        let text = |key: &str| value_of(key).and_then(Value::as_str).unwrap_or_default();
        match self {
            Self::Is(key, wanted) => text(key) == wanted,
            Self::IsNot(key, unwanted) => text(key) != unwanted,
            Self::Has(key) => value_of(key).is_some(),
            Self::HasNot(key) => value_of(key).is_none(),
        }
    }
}

/// Any path of an object may be selected by; the real server knows a list for each kind.
fn field<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, part| value.get(part))
}

fn parse(text: &str) -> Result<Vec<Requirement>, Failure> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, Failure> {
    if text.contains(['(', ')', ' ']) {
        return Err(Failure::bad_request(format!(
            "unable to parse requirement: {text:?} is not spoken here"
        )));
    }
    let own = |part: &str| part.trim().to_owned();
    Ok(if let Some((key, value)) = text.split_once("!=") {
        Requirement::IsNot(own(key), own(value))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Requirement::Is(own(key), own(value))
    } else if let Some(key) = text.strip_prefix('!') {
        Requirement::HasNot(own(key))
    } else {
        Requirement::Has(own(text))
    })
}
