//! Just enough protobuf to read the objects that kubectl's typed clients send: read into the JSON they stand for.
//!
//! Answers are JSON always; these clients accept it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// What such a body begins with; a `runtime.Unknown` follows.
const MAGIC: &[u8] = b"k8s\0";

/// A message type: number, name and type of the fields that are understood. Others are skipped.
type Schema = &'static [(u64, &'static str, Field)];

#[derive(Clone, Copy)]
enum Field {
    Text,
    Flag,
    /// `map<string, string>`.
    Texts,
    /// `map<string, bytes>`, which is Base64 in JSON.
    Blobs,
    Message(Schema),
    /// A repeated message.
    Messages(Schema),
}

const UNKNOWN_TYPE: u64 = 1;
const UNKNOWN_RAW: u64 = 2;
const TYPE_META: Schema = &[(1, "apiVersion", Field::Text), (2, "kind", Field::Text)];

const OBJECT_META: Schema = &[
    (1, "name", Field::Text),
    (2, "generateName", Field::Text),
    (3, "namespace", Field::Text),
    (6, "resourceVersion", Field::Text),
    (11, "labels", Field::Texts),
    (12, "annotations", Field::Texts),
];
const META_ONLY: Schema = &[(1, "metadata", Field::Message(OBJECT_META))];
const CONFIG_MAP: Schema =
    &[(1, "metadata", Field::Message(OBJECT_META)), (2, "data", Field::Texts), (4, "immutable", Field::Flag)];
const SECRET: Schema = &[
    (1, "metadata", Field::Message(OBJECT_META)),
    (2, "data", Field::Blobs),
    (3, "type", Field::Text),
    (4, "stringData", Field::Texts),
];
const CONTAINER: Schema = &[(1, "name", Field::Text), (2, "image", Field::Text)];
const POD: Schema = &[
    (1, "metadata", Field::Message(OBJECT_META)),
    (2, "spec", Field::Message(&[(2, "containers", Field::Messages(CONTAINER))])),
];
const RESOURCE_ATTRIBUTES: Schema = &[
    (1, "namespace", Field::Text),
    (2, "verb", Field::Text),
    (3, "group", Field::Text),
    (4, "version", Field::Text),
    (5, "resource", Field::Text),
    (6, "subresource", Field::Text),
    (7, "name", Field::Text),
];
const PATH_ATTRIBUTES: Schema = &[(1, "path", Field::Text), (2, "verb", Field::Text)];
const ACCESS_REVIEW: Schema = &[(
    2,
    "spec",
    Field::Message(&[
        (1, "resourceAttributes", Field::Message(RESOURCE_ATTRIBUTES)),
        (2, "nonResourceAttributes", Field::Message(PATH_ATTRIBUTES)),
    ]),
)];
const RULES_REVIEW: Schema = &[(2, "spec", Field::Message(&[(1, "namespace", Field::Text)]))];

/// The object in a body of `application/vnd.kubernetes.protobuf`; `None` where it is not one that is understood.
pub(crate) fn read(body: &[u8]) -> Option<Value> {
    let (mut kind, mut raw) = (Value::Null, &[][..]);
    for (number, content) in fields(body.strip_prefix(MAGIC)?)? {
        match number {
            UNKNOWN_TYPE => kind = message(content.bytes()?, TYPE_META)?,
            UNKNOWN_RAW => raw = content.bytes()?,
            _ => {}
        }
    }
    let schema = match kind["kind"].as_str()? {
        "ConfigMap" => CONFIG_MAP,
        "Pod" => POD,
        "Secret" => SECRET,
        "Namespace" | "SelfSubjectReview" => META_ONLY,
        "SelfSubjectAccessReview" => ACCESS_REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        _ => return None,
    };
    let mut object = message(raw, schema)?;
    object["kind"] = kind["kind"].clone();
    object["apiVersion"] = kind["apiVersion"].clone();
    Some(object)
}

fn message(bytes: &[u8], schema: Schema) -> Option<Value> {
    let mut object = Map::new();
    for (number, content) in fields(bytes)? {
        let Some((_, name, field)) = schema.iter().find(|(own, ..)| *own == number) else { continue };
        let slot = object.entry(*name);
        match field {
            // Empty texts are written all the same; JSON leaves them out.
            Field::Text if content.text()?.is_empty() => {}
            Field::Text => *slot.or_insert(Value::Null) = json!(content.text()?),
            Field::Flag => *slot.or_insert(Value::Null) = json!(matches!(content, Content::Number(1))),
            Field::Message(inner) => *slot.or_insert(Value::Null) = message(content.bytes()?, inner)?,
            Field::Messages(inner) => {
                slot.or_insert_with(|| json!([])).as_array_mut()?.push(message(content.bytes()?, inner)?);
            }
            Field::Texts | Field::Blobs => {
                let (mut key, mut value) = ("", &[][..]);
                for (part, content) in fields(content.bytes()?)? {
                    match part {
                        1 => key = content.text()?,
                        2 => value = content.bytes()?,
                        _ => {}
                    }
                }
                let value = match field {
                    Field::Texts => std::str::from_utf8(value).ok()?.to_owned(),
                    _ => STANDARD.encode(value),
                };
                slot.or_insert_with(|| json!({})).as_object_mut()?.insert(key.to_owned(), json!(value));
            }
        }
    }
    Some(Value::Object(object))
}

/// One field as it stands on the wire.
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }

    fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

fn fields(mut rest: &[u8]) -> Option<Vec<(u64, Content<'_>)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let content = match tag & 7 {
            0 => Content::Number(varint(&mut rest)?),
            1 => Content::Bytes(rest.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Content::Bytes(rest.split_off(..length)?)
            }
            5 => Content::Bytes(rest.split_off(..4)?),
            _ => return None,
        };
        found.push((tag >> 3, content));
    }
    Some(found)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
