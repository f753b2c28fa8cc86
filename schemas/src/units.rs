//! Time, money and stock with their units in the type.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::avro::wrappers;

/// Milliseconds since the Unix epoch, or a length in milliseconds.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// A length of whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Later by `length`, never past the end of time.
    #[must_use]
    pub const fn after(self, length: Self) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// Whether this instant is yet to come at `now`, and no further away than `longest`: else somebody has set the clock.
    #[must_use]
    pub fn is_soon(self, now: Self, longest: Self) -> bool {
        (Self(1)..=longest).contains(&self.since(now))
    }

    /// How long from `earlier` to `self`; negative where `self` is the earlier one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Units of stock. Arithmetic is checked: a stock count that wraps is a sold-out drop selling again.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Units(pub i64);

impl Units {
    /// Sum, or `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference, or `None` where it would fall below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|left| *left >= 0).map(Self)
    }
}

impl std::iter::Sum for Units {
    fn sum<I: Iterator<Item = Self>>(units: I) -> Self {
        Self(units.fold(0, |total, next| total.saturating_add(next.0)))
    }
}

impl fmt::Display for Units {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Minor units of a currency (cents of EUR).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MinorUnits(pub i64);

impl MinorUnits {
    /// Price of `units` at `self` each, or `None` on overflow.
    #[must_use]
    pub fn times(self, units: Units) -> Option<Self> {
        self.0.checked_mul(units.0).map(Self)
    }

    /// Sum, or `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

/// An amount with its ISO 4217 currency, as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units.
    pub amount: MinorUnits,
    /// Three capital letters.
    pub currency: Currency,
}

wrappers!(Millis, Units, MinorUnits);

/// ISO 4217. Short, hence without an allocation of its own in every order.
pub type Currency = CompactString;
