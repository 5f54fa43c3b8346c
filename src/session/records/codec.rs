//! How bytes, digests and keys stand in the JSON of a document: base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)
}

pub(super) mod user {
    use super::{Deserialize, Deserializer, Serializer};
    use crate::session::UserTag;
    use serde::de::Error as _;

    pub(in super::super) fn serialize<S: Serializer>(
        user: &UserTag,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(user)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UserTag, D::Error> {
        let text = String::deserialize(from)?;
        UserTag::parse(&text).ok_or_else(|| D::Error::custom("a user is 32 hexadecimal digits"))
    }
}

pub(super) mod bytes {
    use super::{Deserializer, Serializer, decode, encode};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        decode(from)
    }
}

pub(super) mod digest {
    use super::{Deserializer, Serializer, decode, encode};
    use crate::secret::Digest;
    use serde::de::Error as _;

    pub(in super::super) fn serialize<S: Serializer>(
        digest: &Digest,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(digest.as_bytes()))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        Digest::from_bytes(&decode(from)?).ok_or_else(|| D::Error::custom("a digest has 32 bytes"))
    }
}

pub(super) mod optional_digest {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use crate::secret::Digest;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::digest")] Digest);

    pub(in super::super) fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        digest.map(Wrapped).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Digest>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(from)?.map(|wrapped| wrapped.0))
    }
}

pub(super) mod public_key {
    use super::{Deserializer, Serializer, decode, encode};
    use crate::session::seal::PublicKey;
    use serde::de::Error as _;

    pub(in super::super) fn serialize<S: Serializer>(
        key: &PublicKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(key.as_bytes()))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
        PublicKey::from_bytes(&decode(from)?).ok_or_else(|| D::Error::custom("a public key has 32 bytes"))
    }
}

macro_rules! map_of {
    ($module:ident, $value:ty, $with:literal) => {
        pub(super) mod $module {
            use std::collections::BTreeMap;

            use super::{Deserialize, Deserializer, Serialize, Serializer};
            use crate::session::CredentialId;

            #[derive(Serialize, Deserialize)]
            struct Wrapped(#[serde(with = $with)] $value);

            pub(in super::super) fn serialize<S: Serializer>(
                map: &BTreeMap<CredentialId, $value>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_map(map.iter().map(|(id, value)| (id, Wrapped(value.clone()))))
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<BTreeMap<CredentialId, $value>, D::Error> {
                let map = BTreeMap::<CredentialId, Wrapped>::deserialize(from)?;
                Ok(map.into_iter().map(|(id, wrapped)| (id, wrapped.0)).collect())
            }
        }
    };
}

map_of!(map_of_bytes, Vec<u8>, "super::bytes");
map_of!(map_of_public_keys, crate::session::seal::PublicKey, "super::public_key");
