//! The memory of a script: a sorted map from keys to scalars, which is the same on every node.
//!
//! This module owns the undo of one call's changes. It also owns a digest whose cost per change does not depend on
//! the size of the map. It is data only: it knows no script, no instance and no clock. `apply` of a script changes
//! it (through [`Hooks`](crate::hooks::Hooks)), checkpoints carry it, and peers compare its digests.
//!
//! A copy is cheap: copies share the map until one of them changes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::types::{MAX_NUMBER, MAX_VALUE, Value};

/// The maximum length of a key, in bytes.
pub const MAX_KEY: usize = 1_024;

/// The maximum size of all keys and values of one script, in bytes. Each entry counts [`ENTRY_BYTES`] more. The
/// limit exists because a checkpoint writes all entries.
pub const MAX_STATE: usize = 16 << 20;

/// The bytes that an entry counts in addition to its key and value.
pub const ENTRY_BYTES: usize = 32;

/// A value in the map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// A boolean, true or false.
    Bool(bool),
    /// A number, never NaN.
    Number(Number),
    /// Any bytes, at most [`MAX_VALUE`].
    Text(Value),
}

/// A double that is not NaN: the bits of NaN differ between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(u64);

impl Number {
    /// The number; `None` for NaN.
    pub fn new(number: f64) -> Option<Number> {
        (!number.is_nan()).then_some(Number(number.to_bits()))
    }

    /// The number as a double.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// The reason why a change is refused. It is the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The key is longer than [`MAX_KEY`]; this is its length in bytes.
    #[error("a key of {0} bytes is over the limit of {MAX_KEY}")]
    LongKey(usize),
    /// The value is longer than [`MAX_VALUE`]; this is its length in bytes.
    #[error("a value of {0} bytes is over the limit of {MAX_VALUE}")]
    LongValue(usize),
    /// The map would exceed [`MAX_STATE`]; this is the size it would have, in bytes.
    #[error("the state would have {0} bytes, over the limit of {MAX_STATE}: delete something first")]
    Full(usize),
}

/// The map, with a journal that undoes the changes since the last [`ScriptState::commit`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScriptState {
    entries: Arc<BTreeMap<Value, Scalar>>,
    /// The sum of the hashes of all entries. It does not depend on the order of the changes.
    digest: u64,
    bytes: usize,
    journal: Journal,
}

/// The changes to undo. It reuses its memory, so that a change allocates nothing once there is enough room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Journal {
    /// For each change, in order: the offset of its key, and the previous value.
    changes: Vec<(usize, Option<Scalar>)>,
    /// The keys, one after another.
    keys: Vec<u8>,
}

/// The capacity for keys that is kept for the next call, in bytes.
const KEPT_KEYS: usize = 64 << 10;

impl Journal {
    fn note(&mut self, key: &[u8], old: Option<Scalar>) {
        self.changes.push((self.keys.len(), old));
        self.keys.extend_from_slice(key);
    }

    fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
        self.keys.shrink_to(KEPT_KEYS);
    }

    /// Removes the last change: its key, and the previous value.
    fn pop(&mut self) -> Option<(Vec<u8>, Option<Scalar>)> {
        let (begin, old) = self.changes.pop()?;
        Some((self.keys.split_off(begin), old))
    }
}

impl ScriptState {
    /// The value of a key, if the map has one.
    pub fn get(&self, key: &[u8]) -> Option<&Scalar> {
        self.entries.get(key)
    }

    /// The number of keys in the map.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the map has no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The used part of [`MAX_STATE`], in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of all entries, as the log can carry it.
    pub fn digest(&self) -> u64 {
        self.digest & MAX_NUMBER
    }

    /// The entries with keys from `first` on, in the byte order of the keys.
    pub fn from<'a>(
        &'a self,
        first: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Value, &'a Scalar)> + use<'a> {
        self.entries.range::<[u8], _>((first, Bound::Unbounded))
    }

    /// Sets the value of a key; `None` removes the key. Returns whether the key had a value before.
    ///
    /// # Errors
    /// When the key or the value is too long, or the map would be too large. Then nothing changes.
    pub fn set(&mut self, key: &[u8], new: Option<Scalar>) -> Result<bool, StateError> {
        if key.len() > MAX_KEY {
            return Err(StateError::LongKey(key.len()));
        }
        if let Some(Scalar::Text(text)) = &new
            && text.as_bytes().len() > MAX_VALUE
        {
            return Err(StateError::LongValue(text.as_bytes().len()));
        }
        let old = match new {
            Some(new) => self.put(key, new, MAX_STATE)?,
            None if !self.entries.contains_key(key) => return Ok(false),
            None => self.take(key),
        };
        let was_there = old.is_some();
        self.journal.note(key, old);
        Ok(was_there)
    }

    /// Keeps all changes since the last commit.
    pub fn commit(&mut self) {
        self.journal.clear();
    }

    /// Takes back all changes since the last commit.
    pub fn undo(&mut self) {
        while let Some((key, old)) = self.journal.pop() {
            match old {
                Some(old) => {
                    _ = self.put(&key, old, usize::MAX).expect("there is no limit to what comes back")
                }
                None => _ = self.take(&key),
            }
        }
    }

    /// Sets the value of a key and returns the previous one. It fails if the map would both grow and exceed `most`
    /// bytes. The lookup and a copy of the key are the main costs here, so a key that exists is looked up once and
    /// not copied.
    fn put(&mut self, key: &[u8], new: Scalar, most: usize) -> Result<Option<Scalar>, StateError> {
        let (hash, weighs) = (key_hash(key), weight(key, &new));
        let digest = self.digest.wrapping_add(entry_hash(hash, &new));
        let entries = Arc::make_mut(&mut self.entries);
        let there = entries.get_mut(key);
        let before = there.as_deref().map_or(0, |there| weight(key, there));
        let bytes = self.bytes - before + weighs;
        if bytes > most && bytes > self.bytes {
            return Err(StateError::Full(bytes));
        }
        let old = match there {
            Some(there) => Some(std::mem::replace(there, new)),
            None => entries.insert(Value::from(key), new),
        };
        self.bytes = bytes;
        self.digest = digest.wrapping_sub(old.as_ref().map_or(0, |old| entry_hash(hash, old)));
        Ok(old)
    }

    /// Removes a key and returns its value, if it had one.
    fn take(&mut self, key: &[u8]) -> Option<Scalar> {
        let old = Arc::make_mut(&mut self.entries).remove(key)?;
        self.bytes -= weight(key, &old);
        self.digest = self.digest.wrapping_sub(entry_hash(key_hash(key), &old));
        Some(old)
    }
}

/// The bytes that an entry counts towards [`MAX_STATE`].
fn weight(key: &[u8], value: &Scalar) -> usize {
    let bytes = match value {
        Scalar::Bool(_) => 1,
        Scalar::Number(_) => 8,
        Scalar::Text(text) => text.as_bytes().len(),
    };
    key.len() + bytes + ENTRY_BYTES
}

fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The hash of one entry: its key, its kind, its bytes.
fn entry_hash(key: u64, value: &Scalar) -> u64 {
    let (kind, hash) = match value {
        Scalar::Bool(is_true) => (1, xxh3_64_with_seed(&[u8::from(*is_true)], key)),
        Scalar::Number(number) => (2, xxh3_64_with_seed(&number.0.to_be_bytes(), key)),
        Scalar::Text(text) => (3, xxh3_64_with_seed(text.as_bytes(), key)),
    };
    hash.rotate_left(kind).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_scalar() -> impl Strategy<Value = Scalar> {
        let number = any::<f64>().prop_filter_map("a number", Number::new);
        prop_oneof![
            any::<bool>().prop_map(Scalar::Bool),
            number.prop_map(Scalar::Number),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Scalar::Text(bytes.into())),
        ]
    }

    fn any_changes() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Scalar>)>> {
        let key = prop::collection::vec(97..102u8, 0..3);
        prop::collection::vec((key, prop::option::of(any_scalar())), 0..40)
    }

    fn made(entries: &BTreeMap<Value, Scalar>) -> ScriptState {
        let mut state = ScriptState::default();
        for (key, value) in entries.iter().rev() {
            state.set(key.as_bytes(), Some(value.clone())).unwrap();
        }
        state.commit();
        state
    }

    proptest! {
        #[test]
        fn the_digest_owes_nothing_to_the_way_that_led_there(changes in any_changes()) {
            let mut state = ScriptState::default();
            for (key, value) in changes {
                state.set(&key, value).unwrap();
            }
            state.commit();
            prop_assert_eq!(&state, &made(&state.entries));
        }

        #[test]
        fn an_undo_leaves_nothing_behind(before in any_changes(), after in any_changes()) {
            let mut state = ScriptState::default();
            before.into_iter().for_each(|(key, value)| _ = state.set(&key, value).unwrap());
            state.commit();
            let kept = state.clone();
            after.into_iter().for_each(|(key, value)| _ = state.set(&key, value).unwrap());
            state.undo();
            prop_assert_eq!(state, kept);
        }
    }

    #[test]
    fn any_difference_shows_in_the_digest() {
        let one = |key: &str, value| made(&BTreeMap::from([(Value::from(key), value)])).digest();
        let number = |number| Scalar::Number(Number::new(number).unwrap());
        let digests = [
            one("a", Scalar::Text("1".into())),
            one("a1", Scalar::Text("".into())),
            one("a", number(1.0)),
            one("a", number(0.0)),
            one("a", number(-0.0)),
            one("a", Scalar::Bool(true)),
            one("a", Scalar::Bool(false)),
            one("b", Scalar::Bool(false)),
            ScriptState::default().digest(),
        ];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "{at}: {digests:x?}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_and_changes_nothing() {
        let mut state = ScriptState::default();
        let text = |bytes| Some(Scalar::Text(vec![b'x'; bytes].into()));
        assert_eq!(state.set(&[0; MAX_KEY + 1], text(1)), Err(StateError::LongKey(MAX_KEY + 1)));
        assert_eq!(state.set(b"a", text(MAX_VALUE + 1)), Err(StateError::LongValue(MAX_VALUE + 1)));
        let full = (0u32..).find_map(|key| state.set(&key.to_be_bytes(), text(MAX_VALUE)).err());
        assert!(matches!(full, Some(StateError::Full(bytes)) if bytes > MAX_STATE), "{full:?}");
        assert!(state.bytes() <= MAX_STATE);
        assert_eq!(state.set(&0u32.to_be_bytes(), None), Ok(true), "there is a way back");
    }
}
