//! Opaque positions: where in which intents partition a client's intent lies.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemas::ids::Hash;
use schemas::partition::Partition;

use crate::problem::Problem;

/// An offset of an intents partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IntentPosition {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
}

impl IntentPosition {
    pub(crate) fn encode(self) -> String {
        let bytes = [&self.partition.0.to_be_bytes()[..], &self.offset.to_be_bytes()].concat();
        let check = Hash::of(&[&bytes]).0;
        URL_SAFE_NO_PAD.encode([&bytes[..], &check[..2]].concat())
    }

    /// # Errors
    /// 400 for a position that this program did not make.
    pub(crate) fn decode(text: &str) -> Result<Self, Problem> {
        Self::parse(text)
            .ok_or_else(|| Problem::field("after", "is not a position this API has given"))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (partition, rest) = bytes.split_first_chunk::<2>()?;
        let (offset, _) = rest.split_first_chunk::<8>()?;
        let position = Self {
            partition: Partition(u16::from_be_bytes(*partition)),
            offset: i64::from_be_bytes(*offset),
        };
        (position.offset >= 0 && position.encode() == text).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_position_is_told_from_a_given_one() {
        let given = IntentPosition { partition: Partition(3), offset: 41 };
        assert_eq!(IntentPosition::decode(&given.encode()), Ok(given));
        for made_up in ["", "3:41", "AAMAAAAAAAAAKQ", "AAMAAAAAAAAAKQAA", &given.encode()[1..]] {
            assert_eq!(IntentPosition::decode(made_up).unwrap_err().errors[0].field, "after");
        }
    }
}
