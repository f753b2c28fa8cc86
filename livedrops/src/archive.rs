//! Older rows by id: the Postgres view where there is one, else the stores of owners in this process.

use std::sync::Arc;

use ingest_api::archive::{Answer, Reading};
use ingest_api::{Archive, ArchiveError, DropState};
use model::{Row, RowKey};
use postgres_views::PostgresViews;
use reservations::rows::{self as reservation_rows, StateRow};
use schemas::ids::{CreatorId, DropId, OrderId, UserId};
use schemas::order::OrderRow;
use schemas::partition::Partition;
use schemas::topics::ORDER_DECISIONS;
use schemas::units::Millis;

use crate::owners::{Owners, ProcessorName};

/// Reads the Postgres view.
pub(crate) struct PostgresArchive(pub(crate) Arc<PostgresViews>);

fn away(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Unreachable(error.to_string())
}

impl Archive for PostgresArchive {
    fn shows(&self, partition: Partition, intent_offset: i64) -> Answer<'_, bool> {
        Box::pin(async move {
            let positions = self.0.positions(ORDER_DECISIONS.name).await.map_err(away)?;
            let position = positions.get(&partition);
            Ok(position.is_some_and(|position| position.next_intent_offset > intent_offset))
        })
    }

    fn order(&self, order: OrderId) -> Reading<'_, OrderRow> {
        Box::pin(async move { self.0.order(order).await.map_err(away) })
    }

    fn drop_state(&self, drop: DropId) -> Reading<'_, DropState> {
        Box::pin(async move {
            let found = self.0.drop_with_stock(drop).await.map_err(away)?;
            Ok(found.map(|(drop, stocks)| DropState { drop, stocks }))
        })
    }

    fn follow(&self, creator: CreatorId, user: UserId) -> Reading<'_, Millis> {
        Box::pin(async move { self.0.follow(creator, user).await.map_err(away) })
    }
}

/// Reads the stores of owners in this process.
pub(crate) struct StoreArchive {
    pub(crate) owners: Arc<Owners>,
    pub(crate) partitions: u16,
}

impl StoreArchive {
    fn get<R: Row>(
        &self,
        name: ProcessorName,
        partition: Partition,
        key: &RowKey,
    ) -> Result<Option<R>, ArchiveError> {
        let store = self.owners.store(name, partition).ok_or(ArchiveError::NotConfigured)?;
        let bytes = store.get(key.as_bytes()).map_err(away)?;
        bytes.map(|bytes| R::decode(key.tag(), &bytes).map_err(away)).transpose()
    }

    fn drop_now(&self, drop: DropId) -> Result<Option<DropState>, ArchiveError> {
        let partition = drop.partition(self.partitions);
        let get = |key| self.get::<StateRow>(ProcessorName::Reservations, partition, &key);
        let Some(StateRow::Drop(row)) = get(reservation_rows::drop_key(drop))? else {
            return Ok(None);
        };
        let mut stocks = Vec::new();
        for variant in &row.variants {
            if let Some(StateRow::Stock(stock)) =
                get(reservation_rows::stock_key(drop, variant.variant_id))?
            {
                stocks.push(*stock);
            }
        }
        Ok(Some(DropState { drop: Arc::unwrap_or_clone(row), stocks }))
    }
}

impl Archive for StoreArchive {
    fn shows(&self, partition: Partition, intent_offset: i64) -> Answer<'_, bool> {
        let store = self.owners.store(ProcessorName::Reservations, partition);
        let position = store
            .ok_or(ArchiveError::NotConfigured)
            .and_then(|store| store.position().map_err(away));
        let shows = position.map(|position| {
            position.is_some_and(|position| position.next_intent_offset > intent_offset)
        });
        Box::pin(std::future::ready(shows))
    }

    fn order(&self, order: OrderId) -> Reading<'_, OrderRow> {
        let partition = order.partition(self.partitions);
        let key = reservation_rows::order_key(order);
        let found = self.get::<StateRow>(ProcessorName::Reservations, partition, &key);
        let found = found.map(|row| match row {
            Some(StateRow::Order(row)) => Some(Arc::unwrap_or_clone(row)),
            _ => None,
        });
        Box::pin(std::future::ready(found))
    }

    fn drop_state(&self, drop: DropId) -> Reading<'_, DropState> {
        Box::pin(std::future::ready(self.drop_now(drop)))
    }

    fn follow(&self, creator: CreatorId, user: UserId) -> Reading<'_, Millis> {
        use followers::rows::{StateRow, follow_key};
        let partition = creator.partition(self.partitions);
        let key = follow_key(creator, user);
        let found = self.get::<StateRow>(ProcessorName::Followers, partition, &key);
        let found = found.map(|row| match row {
            Some(StateRow::Follow(row)) if row.following => Some(row.since),
            _ => None,
        });
        Box::pin(std::future::ready(found))
    }
}
