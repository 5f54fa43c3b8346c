//! What these tests do with a home and the fake server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::fake::Fake;
use crate::home::{Ended, Home, visit};

impl Home {
    pub(crate) fn new(fake: &Fake) -> Self {
        Self::of(&fake.url, fake.ca.pem())
    }

    /// Keeps this as the token's file.
    pub(crate) fn keep(&self, text: &str) {
        self.write(&self.token_file(), text);
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// Signs in, with a person who allows it.
    pub(crate) async fn logged_in(&self, fake: &Fake, more: &[&str]) -> Ended {
        let mut running = self.login(&[&["--no-browser"], more].concat());
        let address = running.address().await;
        assert!(visit(&fake.allow(&address)).await.contains("You can close this tab"));
        running.ended().await
    }
}

impl Ended {
    /// The token of an `ExecCredential`.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        let answer: serde_json::Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(answer["kind"], "ExecCredential");
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}
