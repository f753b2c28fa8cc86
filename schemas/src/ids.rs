//! Typed 16-byte identifiers, on the wire as Avro `fixed(16)`, for people as UUID strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::avro::wrappers;
use crate::partition::murmur2;

/// Reads 16 bytes from Avro `fixed`, whether the decoder lends or owns them.
struct SixteenBytes;

impl de::Visitor<'_> for SixteenBytes {
    type Value = [u8; 16];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("16 bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

macro_rules! sixteen_bytes {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(SixteenBytes).map(Self)
            }
        }

        wrappers!($name);

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    )+};
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        sixteen_bytes!($($(#[$doc])* $name),+);
        $(
            impl fmt::Display for $name {
                fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    Uuid::from_bytes(self.0).hyphenated().fmt(formatter)
                }
            }

            impl FromStr for $name {
                type Err = uuid::Error;

                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    Uuid::parse_str(text).map(|id| Self(id.into_bytes()))
                }
            }

            impl From<Uuid> for $name {
                fn from(id: Uuid) -> Self {
                    Self(id.into_bytes())
                }
            }

            impl From<$name> for Uuid {
                fn from(id: $name) -> Self {
                    Uuid::from_bytes(id.0)
                }
            }
        )+
    };
}

ids! {
    /// A limited stock that goes on sale at a set instant; the key of the order topics.
    DropId,
    /// One order, derived from (drop, user, idempotency key); see [`OrderId::derive`].
    OrderId,
    /// A pseudonym: the `sub` of the caller's token. No personal data reaches the log.
    UserId,
    /// Who sells; the key of the follow topics.
    CreatorId,
    /// What is sold; it need not exist in the catalogue.
    ProductId,
    /// One variant of a drop; the drop's own id where there is a single, unnamed one.
    VariantId,
    /// One intent, made at random by its appender and echoed by its decision.
    IntentId,
}

sixteen_bytes! {
    /// First 16 bytes of a hash: of a request's meaning, of a key, of a schema.
    Hash,
    /// A link of the decision chain; see [`crate::decision::next_link`].
    Chain,
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, formatter)
    }
}

fn write_hex(bytes: &[u8], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
}

/// SHA-256 over length-prefixed parts, so that no two lists of parts share a hash input.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Sets the version (8, RFC 9562 "custom") and variant bits of a UUID.
fn as_uuid_v8(bytes: [u8; 16]) -> [u8; 16] {
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into_bytes()
}

impl Hash {
    /// First 16 bytes of SHA-256 over length-prefixed parts.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = sha256(parts);
        Self(head)
    }
}

impl DropId {
    /// The id of a drop scheduled without one: the same on every retry of the same key.
    #[must_use]
    pub fn derive(creator: CreatorId, key: &str) -> Self {
        Self(as_uuid_v8(Hash::of(&[b"drop", &creator.0, key.as_bytes()]).0))
    }

    /// The single variant of a plain drop carries the drop's own id.
    #[must_use]
    pub fn plain_variant(self) -> VariantId {
        VariantId(self.0)
    }
}

impl OrderId {
    /// `UUIDv8`: 4 bytes murmur2(drop), 12 bytes of SHA-256(drop, user, key). It is the same on every
    /// retry and node, and it names the partition, so order commands need no drop id.
    #[must_use]
    pub fn derive(drop: DropId, user: UserId, key: &str) -> Self {
        let digest = sha256(&[b"order", &drop.0, &user.0, key.as_bytes()]);
        let mut bytes = [0; 16];
        let (prefix, rest) = bytes.split_at_mut(4);
        prefix.copy_from_slice(&murmur2(&drop.0).to_be_bytes());
        rest.copy_from_slice(&digest[..12]);
        Self(as_uuid_v8(bytes))
    }

    /// murmur2 of the drop id, from the order id alone.
    #[must_use]
    pub fn drop_hash(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}
