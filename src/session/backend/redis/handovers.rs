//! What waits between two requests of a hand-over: one key each.

use async_trait::async_trait;
use jiff::Timestamp;

use super::scripts::{self, Script};
use super::{PREFIX, Redis};
use crate::session::StoreError;
use crate::session::handover::{Handovers, Place};

#[async_trait]
impl Handovers for Redis {
    async fn put(&self, place: &Place, record: &[u8], until: Timestamp) -> Result<bool, StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(key(place)).arg(record).arg("NX").arg("PXAT").arg(until.as_millisecond());
        // `OK`, or nothing where a record is.
        let put: Option<String> = self.ask(&set).await?;
        Ok(put.is_some())
    }

    async fn peek(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(redis::cmd("GET").arg(key(place))).await
    }

    async fn exchange(
        &self,
        place: &Place,
        expected: &[u8],
        record: &[u8],
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut script = Script::new(scripts::EXCHANGE);
        script.key(key(place)).arg(expected).arg(record).arg(until.as_millisecond());
        self.call(&script).await
    }

    async fn take(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        let mut script = Script::new(scripts::TAKE);
        script.key(key(place));
        self.call(&script).await
    }
}

fn key(place: &Place) -> String {
    format!("{PREFIX}handover:{place}")
}
