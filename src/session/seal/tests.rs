use super::*;
use crate::secret::{CredentialSecret, token_key};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Another implementation of the description derives the same keys, opens the same bytes and refuses them elsewhere.
#[test]
fn the_test_vectors_of_the_description_hold() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let vector = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("docs/security.md has no vector `{name}`")).trim().to_owned()
    };
    let keys = CredentialKeys::of(&token_key(&vector("token")).unwrap());
    assert_eq!(hex(keys.record.as_slice()), vector("record key"));
    assert_eq!(hex(keys.private.as_slice()), vector("x25519 private key"));
    assert_eq!(hex(keys.public().as_bytes()), vector("x25519 public key"));

    let context = Context::of("example").and("one").and("two");
    assert_eq!(hex(&context.0), vector("associated data"));
    let plain = keys.open(&context, &bytes(&vector("sealed under the record key"))).unwrap();
    assert_eq!(plain.as_slice(), b"plain");
    let data_key =
        keys.open_data_key(&context, &bytes(&vector("data key sealed to the public key"))).unwrap();
    assert_eq!(hex(data_key.0.as_slice()), vector("data key"));
    let plain = data_key.open(&context, &bytes(&vector("sealed under the data key"))).unwrap();
    assert_eq!(plain.as_slice(), b"plain");

    let origin = "https://k8s.example.com";
    let keys = UserCodeKeys::of(&vector(&format!("user code at {origin}")), origin);
    assert_eq!(hex(keys.place()), vector("place of the user code"));
}

/// What was sealed opens with its own key in its own place, and nowhere else; not one flipped bit goes unnoticed.
#[test]
fn what_was_moved_or_changed_does_not_open() {
    let (one, two) = (
        CredentialKeys::of(&CredentialSecret::new_token().key()),
        CredentialKeys::of(&CredentialSecret::new_token().key()),
    );
    let (here, there) = (Context::of("a").and("bc"), Context::of("ab").and("c"));
    let sealed = one.seal(&here, b"plain");
    assert_eq!(one.open(&here, &sealed).unwrap().as_slice(), b"plain");
    assert!(one.open(&there, &sealed).is_err() && two.open(&here, &sealed).is_err());
    let data_key = DataKey::random();
    let to_one = data_key.seal_to(&one.public(), &here).unwrap();
    assert_eq!(one.open_data_key(&here, &to_one).unwrap().0, data_key.0);
    assert!(one.open_data_key(&there, &to_one).is_err() && two.open_data_key(&here, &to_one).is_err());
    for (bytes, open) in [
        (&sealed, &(|bytes: &[u8]| one.open(&here, bytes).is_ok()) as &dyn Fn(&[u8]) -> bool),
        (&to_one, &|bytes: &[u8]| one.open_data_key(&here, bytes).is_ok()),
    ] {
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(!open(&flipped), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(!open(&bytes[..length]), "{length} bytes");
        }
    }
}

/// A forged public key, such as the point of low order, seals nothing to itself.
#[test]
fn a_public_key_of_low_order_is_refused() {
    let zero = PublicKey::from_bytes(&[0; 32]).unwrap();
    assert!(DataKey::random().seal_to(&zero, &Context::of("a")).is_err());
}
