//! Hand-overs lie in the same backend, beside the records.

use async_trait::async_trait;
use jiff::Timestamp;

use super::SealedStore;
use crate::session::StoreError;
use crate::session::backend::Backend;
use crate::session::handover::{Handovers, Place};

#[async_trait]
impl<B: Backend + Handovers> Handovers for SealedStore<B> {
    async fn put(&self, place: &Place, record: &[u8], until: Timestamp) -> Result<bool, StoreError> {
        self.backend.put(place, record, until).await
    }

    async fn peek(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        self.backend.peek(place).await
    }

    async fn exchange(
        &self,
        place: &Place,
        expected: &[u8],
        record: &[u8],
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.backend.exchange(place, expected, record, until).await
    }

    async fn take(&self, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
        self.backend.take(place).await
    }
}
