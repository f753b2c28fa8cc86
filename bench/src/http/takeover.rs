//! From `kill -9` to the decisions of whoever is left.

use anyhow::{Context as _, Result, ensure};
use platform::clock::monotonic;
use schemas::ids::DropId;
use schemas::partition::Partition;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::site::{self, Node, Role, Site, post, wait_for};

/// Drops of which each has to be decided by the node that is left: enough to be on every partition's owner.
const DROPS: u32 = 16;
/// So many drops, and one is in a given partition of a dozen.
const TRIES_MAX: usize = 300;

/// Seconds from the kill to a decided order of every drop.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Takeovers {
    /// Decisions of the largest partition, whose owner is killed.
    pub(crate) largest_decisions: f64,
    /// Of that partition, by a node that has to fold it first.
    pub(crate) largest_seconds: f64,
    /// Of the slowest of the others.
    pub(crate) others_seconds: f64,
    /// Of the slowest of all, by a node that has followed them.
    pub(crate) standby_seconds: f64,
}

/// Kills the owner of the largest partition, then the other node, when a third one stands by.
pub(super) fn measure(runtime: &Runtime, site: &Site<'_>, node: &mut Node) -> Result<Takeovers> {
    let owned = |node: &Node| runtime.block_on(site::owned_of_orders(node));
    let all = owned(node)?;
    let count = u16::try_from(all.len())?;
    let largest = all.into_iter().max_by_key(|shown| shown.seq).context("nothing is owned")?;
    let mut second = site.start(runtime, Role::All, "second")?;
    let others = wait_for("the nodes do not share the partitions", || {
        let (left, others) = (owned(node)?, owned(&second)?);
        let is_shared = left.len() + others.len() == usize::from(count) && !others.is_empty();
        Ok(is_shared.then_some(others))
    })?;
    if others.iter().any(|shown| shown.partition == largest.partition) {
        // The first one had it until now: it would only have to open its store.
        node.forget(largest.partition)?;
        std::mem::swap(node, &mut second);
    }
    let is_in_largest =
        |drop: &Uuid| DropId(drop.into_bytes()).partition(count) == Partition(largest.partition);
    let cold = takeover(runtime, site, node, &second, is_in_largest)?;
    let third = site.start(runtime, Role::Standby, "third")?;
    wait_for("the standby does not come to the end", || {
        Ok(runtime.block_on(site::is_in_step(&third, &second))?.then_some(()))
    })?;
    let warm = takeover(runtime, site, &mut second, &third, is_in_largest)?;
    Ok(Takeovers {
        largest_decisions: f64::from(i32::try_from(largest.seq)?),
        largest_seconds: cold.largest,
        others_seconds: cold.others,
        standby_seconds: warm.largest.max(warm.others),
    })
}

struct Took {
    largest: f64,
    others: f64,
}

/// Kills a node and orders from another one, of every drop at once.
fn takeover(
    runtime: &Runtime,
    site: &Site<'_>,
    node: &mut Node,
    other: &Node,
    is_in_largest: impl Fn(&Uuid) -> bool,
) -> Result<Took> {
    let mut drops = Vec::new();
    for _ in 0..DROPS {
        drops.push(site.schedule(runtime, other, 10)?);
    }
    while !drops.iter().any(&is_in_largest) {
        ensure!(drops.len() < TRIES_MAX, "no drop is in the largest partition");
        drops.push(site.schedule(runtime, other, 10)?);
    }
    let token = site.token(platform::clock::random_uuid(), "")?;
    node.process.kill()?;
    let killed = monotonic();
    runtime.block_on(async {
        let mut orders = tokio::task::JoinSet::new();
        for drop in drops {
            let (url, token) = (format!("{}/drops/{drop}/orders", other.url), token.clone());
            orders.spawn(async move {
                let answer = post(&url, &token, &json!({"qty": 1})).await?;
                ensure!(answer["order"]["status"] == "CONFIRMED", "not decided: {answer}");
                Ok((drop, killed.elapsed().as_secs_f64()))
            });
        }
        let mut took = Took { largest: 0.0, others: 0.0 };
        while let Some(decided) = orders.join_next().await {
            let (drop, seconds) = decided??;
            let slowest = if is_in_largest(&drop) { &mut took.largest } else { &mut took.others };
            *slowest = slowest.max(seconds);
        }
        Ok(took)
    })
}
