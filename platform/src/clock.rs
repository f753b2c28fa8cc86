//! The one place that reads clocks and draws random numbers.

#![allow(clippy::disallowed_methods, reason = "this is the place the lint points to")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Wall clock in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point on the monotonic clock, for measuring lengths.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// A random UUID that sorts by time.
#[must_use]
pub fn random_uuid() -> Uuid {
    Uuid::now_v7()
}
