//! What a script remembers: a sorted map from keys to scalars, which every node computes alike.
//!
//! Owns the undo of what one call did, and a digest that costs the same for every change however large the
//! map is. It is data, nothing else: it knows no script, no instance and no clock. `apply` of a script changes
//! it (through [`Hooks`](crate::hooks::Hooks)), checkpoints carry it, and peers compare digests of it.
//!
//! A copy is cheap: the map is shared until one of the copies is changed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::types::{MAX_NUMBER, MAX_VALUE, Value};

/// The most bytes that a key may have.
pub const MAX_KEY: usize = 1_024;

/// The most bytes that all keys and values of one script may have, each entry counted with
/// [`ENTRY_BYTES`] more: a checkpoint writes them all.
pub const MAX_STATE: usize = 16 << 20;

/// What an entry counts beside its bytes.
pub const ENTRY_BYTES: usize = 32;

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Any bytes, at most [`MAX_VALUE`].
    Text(Value),
}

/// A double that is a number: never NaN, whose bits differ between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(u64);

impl Number {
    /// The number, unless it is none.
    pub fn new(number: f64) -> Option<Number> {
        (!number.is_nan()).then_some(Number(number.to_bits()))
    }

    /// As a double.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Why something cannot be remembered. The same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The key is too long.
    #[error("a key of {0} bytes is over the limit of {MAX_KEY}")]
    LongKey(usize),
    /// The value is too long.
    #[error("a value of {0} bytes is over the limit of {MAX_VALUE}")]
    LongValue(usize),
    /// There is too much already.
    #[error("the state would have {0} bytes, over the limit of {MAX_STATE}: delete something first")]
    Full(usize),
}

/// The map, with what undoes the changes since the last [`State::commit`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    entries: Arc<BTreeMap<Value, Scalar>>,
    /// The sum over all entries: the same whatever the order in which they came.
    digest: u64,
    bytes: usize,
    journal: Journal,
}

/// What undoes changes: nothing is allocated for one, once there is room for as many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Journal {
    /// Of each change, in order: where its key begins, and what stood there.
    changes: Vec<(usize, Option<Scalar>)>,
    /// The keys, one after another.
    keys: Vec<u8>,
}

/// How much room for keys is kept for the next call.
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

    /// The last change: its key, and what stood there.
    fn pop(&mut self) -> Option<(Vec<u8>, Option<Scalar>)> {
        let (begin, old) = self.changes.pop()?;
        Some((self.keys.split_off(begin), old))
    }
}

impl State {
    /// What stands under a key.
    pub fn get(&self, key: &[u8]) -> Option<&Scalar> {
        self.entries.get(key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How much of [`MAX_STATE`] is used.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of all entries, as the log can carry it.
    pub fn digest(&self) -> u64 {
        self.digest & MAX_NUMBER
    }

    /// The entries with keys from `first` on, in order of their bytes.
    pub fn from<'a>(
        &'a self,
        first: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Value, &'a Scalar)> + use<'a> {
        self.entries.range::<[u8], _>((first, Bound::Unbounded))
    }

    /// Puts a scalar under a key, or takes away what stands there. True if something stood there before.
    ///
    /// # Errors
    /// When it is too long, or there is too much; then nothing is changed.
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

    /// Keeps what was changed.
    pub fn commit(&mut self) {
        self.journal.clear();
    }

    /// Takes back everything since the last commit.
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

    /// Puts a scalar under a key, unless the map would grow, and beyond so many bytes. What stood there before.
    /// The way to the key, and a copy of it, are what costs most here: a key that is there is looked up once,
    /// and not copied.
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

    /// Takes away what stands under a key, if something does.
    fn take(&mut self, key: &[u8]) -> Option<Scalar> {
        let old = Arc::make_mut(&mut self.entries).remove(key)?;
        self.bytes -= weight(key, &old);
        self.digest = self.digest.wrapping_sub(entry_hash(key_hash(key), &old));
        Some(old)
    }
}

/// What an entry counts of [`MAX_STATE`].
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

/// Of one entry: its key, its kind, its bytes.
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

    fn made(entries: &BTreeMap<Value, Scalar>) -> State {
        let mut state = State::default();
        for (key, value) in entries.iter().rev() {
            state.set(key.as_bytes(), Some(value.clone())).unwrap();
        }
        state.commit();
        state
    }

    proptest! {
        #[test]
        fn the_digest_owes_nothing_to_the_way_that_led_there(changes in any_changes()) {
            let mut state = State::default();
            for (key, value) in changes {
                state.set(&key, value).unwrap();
            }
            state.commit();
            prop_assert_eq!(&state, &made(&state.entries));
        }

        #[test]
        fn an_undo_leaves_nothing_behind(before in any_changes(), after in any_changes()) {
            let mut state = State::default();
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
            State::default().digest(),
        ];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "{at}: {digests:x?}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_and_changes_nothing() {
        let mut state = State::default();
        let text = |bytes| Some(Scalar::Text(vec![b'x'; bytes].into()));
        assert_eq!(state.set(&[0; MAX_KEY + 1], text(1)), Err(StateError::LongKey(MAX_KEY + 1)));
        assert_eq!(state.set(b"a", text(MAX_VALUE + 1)), Err(StateError::LongValue(MAX_VALUE + 1)));
        let full = (0u32..).find_map(|key| state.set(&key.to_be_bytes(), text(MAX_VALUE)).err());
        assert!(matches!(full, Some(StateError::Full(bytes)) if bytes > MAX_STATE), "{full:?}");
        assert!(state.bytes() <= MAX_STATE);
        assert_eq!(state.set(&0u32.to_be_bytes(), None), Ok(true), "there is a way back");
    }
}
