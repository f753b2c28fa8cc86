//! How far each partition is folded: the fence and the idempotence of the view.

use std::collections::BTreeMap;

use schemas::partition::Partition;
use sqlx::{PgConnection, Row};

use crate::{Placed, PostgresViews, ViewError};

/// Where a partition of a view stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ViewPosition {
    /// Next decision offset to fold.
    pub next_offset: i64,
    /// Sequence number of the last one folded; -1 for none.
    pub seq: i64,
    /// Every intent below is decided and visible here.
    pub next_intent_offset: i64,
}

const START: ViewPosition = ViewPosition { next_offset: 0, seq: -1, next_intent_offset: 0 };

fn position(row: &sqlx::postgres::PgRow) -> Result<(Partition, ViewPosition), sqlx::Error> {
    let partition: i32 = row.try_get("partition")?;
    let position = ViewPosition {
        next_offset: row.try_get("next_offset")?,
        seq: row.try_get("seq")?,
        next_intent_offset: row.try_get("next_intent_offset")?,
    };
    Ok((Partition(u16::try_from(partition).unwrap_or(0)), position))
}

impl PostgresViews {
    /// Where every partition of `topic` stands; partitions that are missing stand at the start.
    ///
    /// # Errors
    /// Where Postgres is away.
    pub async fn positions(
        &self,
        topic: &str,
    ) -> Result<BTreeMap<Partition, ViewPosition>, ViewError> {
        let rows = sqlx::query("SELECT * FROM view_v1.position WHERE topic = $1")
            .bind(topic)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(position).collect::<Result<_, _>>()?)
    }
}

/// Moves the position of every partition in the batch, from exactly where it stands.
pub(crate) async fn advance<B>(
    connection: &mut PgConnection,
    topic: &str,
    batch: &[Placed<B>],
) -> Result<(), ViewError> {
    let mut ranges: BTreeMap<Partition, (i64, &Placed<B>)> = BTreeMap::new();
    for placed in batch {
        let seq = placed.decision.header.seq;
        let (first, last) = ranges.entry(placed.partition).or_insert((seq, placed));
        if last.decision.header.seq + 1 == seq {
            *last = placed;
        } else if *first != seq {
            let expected = last.decision.header.seq + 1;
            return Err(ViewError::Gap { partition: placed.partition, expected, found: seq });
        }
    }
    for (partition, (first_seq, last)) in ranges {
        let header = &last.decision.header;
        let number = i32::from(partition.0);
        if first_seq == START.seq + 1 {
            let fresh =
                "INSERT INTO view_v1.position VALUES ($1, $2, 0, -1, 0) ON CONFLICT DO NOTHING";
            sqlx::query(fresh).bind(topic).bind(number).execute(&mut *connection).await?;
        }
        let moved = sqlx::query(
            "UPDATE view_v1.position SET next_offset = $1, seq = $2, next_intent_offset = $3 \
             WHERE topic = $4 AND partition = $5 AND seq = $6",
        )
        .bind(last.offset + 1)
        .bind(header.seq)
        .bind(header.next_intent_offset)
        .bind(topic)
        .bind(number)
        .bind(first_seq - 1)
        .execute(&mut *connection)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(ViewError::Moved(partition));
        }
    }
    Ok(())
}
