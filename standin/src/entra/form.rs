//! Parameters of a query or a form, each at most once.

use super::errors::Refusal;

/// Decoded parameters in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Decodes `application/x-www-form-urlencoded`. An empty value counts as an absent one.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(text);
        Self(pairs.filter(|(_, value)| !value.is_empty()).map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Like [`Form::get`], but refuses with 900144 where the parameter is absent.
    pub(crate) fn require(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name)
            .ok_or_else(|| Refusal::new(900_144, format!("The request lacks the parameter '{name}'.")))
    }

    /// Refuses a request that names a parameter twice.
    pub(crate) fn refuse_duplicates(&self) -> Result<(), Refusal> {
        for (place, (key, _)) in self.0.iter().enumerate() {
            if self.0[..place].iter().any(|(earlier, _)| earlier == key) {
                let text = format!("The request names the parameter '{key}' more than once.");
                return Err(Refusal::new(9_000_411, text));
            }
        }
        Ok(())
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}
