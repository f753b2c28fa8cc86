//! Postgres views folded from the decisions: drops, variants, orders with their lines, follows, creators.
//!
//! Exactly once by construction: rows and position change in one SQL transaction, and the position is a
//! compare-and-set, so a second writer, or a batch applied before, changes nothing. Rows carry the `seq` of
//! their decision; an older one never overwrites a newer.

mod positions;
mod read;
mod rows;

use schemas::decision::Decision;
use schemas::follow::FollowBody;
use schemas::order::OrderBody;
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, ORDER_DECISIONS};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Postgres, Transaction};

pub use positions::ViewPosition;
pub use read::OrderDigest;

/// A committed decision with its place in the log.
#[derive(Clone, Debug)]
pub struct Placed<B> {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// The record.
    pub decision: Decision<B>,
}

/// Why a batch was not applied; the variant is what the writer does next.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Postgres is away or refused a statement: read the positions again and go on from there.
    #[error("Postgres: {0}")]
    Database(#[from] sqlx::Error),
    /// Postgres cannot be brought to this schema.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Another writer has moved the position: read the positions again.
    #[error("partition {0} was moved by another writer")]
    Moved(Partition),
    /// A decision is missing between the view and this batch: stop, the log is damaged.
    #[error("partition {partition}: seq {found} where {expected} is due")]
    Gap {
        /// The partition.
        partition: Partition,
        /// What is due.
        expected: i64,
        /// What came.
        found: i64,
    },
}

/// The views of one database.
#[derive(Clone, Debug)]
pub struct PostgresViews {
    pool: PgPool,
}

impl PostgresViews {
    /// Connects and migrates. A migration may lock a table while it rewrites it, and builds from before it cannot use the
    /// views any more.
    ///
    /// # Errors
    /// Where Postgres is away or its schema is newer.
    pub async fn connect(url: &str) -> Result<Self, ViewError> {
        let views = Self::open(url).await?;
        sqlx::migrate!().run(&views.pool).await?;
        Ok(views)
    }

    /// Connects to views that a node of this build has migrated: for reading.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn open(url: &str) -> Result<Self, ViewError> {
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(std::time::Duration::from_secs(5))
            .connect(url)
            .await?;
        Ok(Self { pool })
    }

    /// Folds a batch of order decisions, in log order per partition.
    ///
    /// # Errors
    /// [`ViewError`]; nothing of the batch is applied.
    pub async fn apply_orders(&self, batch: &[Placed<OrderBody>]) -> Result<(), ViewError> {
        let mut transaction = self.begin().await?;
        positions::advance(&mut transaction, ORDER_DECISIONS.name, batch).await?;
        rows::put_drops(&mut transaction, batch).await?;
        rows::put_stocks(&mut transaction, batch).await?;
        rows::put_orders(&mut transaction, batch).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Folds a batch of follow decisions.
    ///
    /// # Errors
    /// [`ViewError`]; nothing of the batch is applied.
    pub async fn apply_follows(&self, batch: &[Placed<FollowBody>]) -> Result<(), ViewError> {
        let mut transaction = self.begin().await?;
        positions::advance(&mut transaction, FOLLOW_DECISIONS.name, batch).await?;
        rows::put_follows(&mut transaction, batch).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A dead machine may lose the last transactions, rows and position together: they are folded again.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, ViewError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}
