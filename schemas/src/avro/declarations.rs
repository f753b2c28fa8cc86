//! How our types say what they are on the log: as what they wrap, as records, as words.

/// Types that are on the log as what they wrap.
macro_rules! wrappers {
    ($($wrapper:ty),+ $(,)?) => {$(
        impl $crate::avro::Datum for $wrapper {
            #[inline]
            fn write(&self, buffer: &mut Vec<u8>) {
                self.0.write(buffer);
            }

            #[inline]
            fn read(reader: &mut $crate::avro::Reader<'_>) -> Result<Self, $crate::avro::AvroError> {
                $crate::avro::Datum::read(reader).map(Self)
            }
        }
    )+};
}

/// Records, their fields in the order of the schema. A field that is left out does not compile.
macro_rules! records {
    ($($name:ident $(<$parameter:ident>)? { $($field:ident),+ $(,)? })+) => {
        #[cfg(test)]
        const RECORDS: &[(&str, &[&str])] = &[$((stringify!($name), &[$(stringify!($field)),+])),+];

        $(impl $(<$parameter: Datum>)? Datum for $name $(<$parameter>)? {
            fn write(&self, buffer: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $($field.write(buffer);)+
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
                // Expressions of a struct literal are evaluated as they are written.
                Ok(Self { $($field: Datum::read(reader)?),+ })
            }
        })+
    };
}

/// An enumeration and its words, which are strings in our schemas: adding a symbol to an Avro `enum` would break old
/// readers. The words are the same in JSON.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            #[inline]
            fn from_word(word: &[u8]) -> Option<Self> {
                $(if word == $word.as_bytes() {
                    return Some(Self::$variant);
                })+
                None
            }
        }

        impl $crate::avro::Datum for $name {
            #[inline]
            fn write(&self, buffer: &mut Vec<u8>) {
                $crate::avro::write_text(self.as_str(), buffer);
            }

            #[inline]
            fn read(reader: &mut $crate::avro::Reader<'_>) -> Result<Self, $crate::avro::AvroError> {
                let word = reader.text()?;
                Self::from_word(word).ok_or_else(|| $crate::avro::AvroError::unknown_word(stringify!($name), word))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Self::from_word(word.as_bytes()).ok_or_else(|| serde::de::Error::unknown_variant(&word, &[$($word),+]))
            }
        }
    };
}

pub(super) use records;
pub(crate) use {words, wrappers};
