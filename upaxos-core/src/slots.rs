//! A map from numbers that lie close together to what belongs to each: instances under way, the open requests
//! of one client.
//!
//! Owns nothing but the form: pages of [`PAGE`] places each, in order. Where neighbours are looked up one after
//! another, as on the way of every request, that is an index and seldom more; and a hostile number far away
//! costs one page, not all the places between. The roles use it; it knows nothing of them.

use std::collections::BTreeMap;

use crate::types::Tag;

/// How many places a page has.
const PAGE: u64 = 32;

/// The map. Two of the same content are equal, however they came to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slots<T> {
    /// By the number of the page; none of them is empty.
    pages: BTreeMap<u64, Page<T>>,
    len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Page<T> {
    used: u32,
    places: Vec<Option<T>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { pages: BTreeMap::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    /// How many numbers have something.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is at `at`.
    pub fn get(&self, at: u64) -> Option<&T> {
        self.pages.get(&(at / PAGE))?.places[place(at)].as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        self.pages.get_mut(&(at / PAGE))?.places[place(at)].as_mut()
    }

    /// Whether there is something at `at`.
    pub fn contains(&self, at: u64) -> bool {
        self.get(at).is_some()
    }

    /// Puts something at `at`; hands back what was there.
    pub fn insert(&mut self, at: u64, thing: T) -> Option<T> {
        let before = self.place_at(at).replace(thing);
        self.len += usize::from(before.is_none());
        before
    }

    /// What is at `at`; if nothing is, the default is from now on.
    pub fn get_or_default(&mut self, at: u64) -> &mut T
    where
        T: Default,
    {
        self.len += usize::from(!self.contains(at));
        self.place_at(at).get_or_insert_default()
    }

    /// Takes what is at `at`.
    pub fn remove(&mut self, at: u64) -> Option<T> {
        let page = self.pages.get_mut(&(at / PAGE))?;
        let thing = page.places[place(at)].take()?;
        page.used &= !(1 << place(at));
        if page.used == 0 {
            self.pages.remove(&(at / PAGE));
        }
        self.len -= 1;
        Some(thing)
    }

    /// Takes the first, if it is at or below `last`.
    pub fn pop_through(&mut self, last: u64) -> Option<(u64, T)> {
        let mut first = self.pages.first_entry()?;
        let at = first.key() * PAGE + u64::from(first.get().used.trailing_zeros());
        if at > last {
            return None;
        }
        let page = first.get_mut();
        let thing = page.places[place(at)].take()?;
        page.used &= !(1 << place(at));
        if page.used == 0 {
            first.remove();
        }
        self.len -= 1;
        Some((at, thing))
    }

    /// The lowest number that has something, and that.
    pub fn first(&self) -> Option<(u64, &T)> {
        let (number, page) = self.pages.first_key_value()?;
        let place = page.used.trailing_zeros();
        Some((number * PAGE + u64::from(place), page.places[place as usize].as_ref()?))
    }

    /// The highest.
    pub fn last(&self) -> Option<(u64, &T)> {
        let (number, page) = self.pages.last_key_value()?;
        let place = page.used.ilog2();
        Some((number * PAGE + u64::from(place), page.places[place as usize].as_ref()?))
    }

    /// All, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.from(0)
    }

    /// Those from `first` on, in order.
    pub fn from(&self, first: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let pages = self.pages.range(first / PAGE..);
        let things = pages.flat_map(|(number, page)| {
            let places = page.places.iter().enumerate();
            places.map(move |(place, thing)| (number * PAGE + place as u64, thing))
        });
        things.filter_map(move |(at, thing)| Some((at, thing.as_ref().filter(|_| at >= first)?)))
    }

    /// All, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (u64, &mut T)> {
        let things = self.pages.iter_mut().flat_map(|(number, page)| {
            let places = page.places.iter_mut().enumerate();
            places.map(move |(place, thing)| (number * PAGE + place as u64, thing))
        });
        things.filter_map(|(at, thing)| Some((at, thing.as_mut()?)))
    }

    /// All things, in order.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_values().flat_map(|page| page.places).flatten()
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&mut T) -> bool) {
        let unwanted: Vec<u64> =
            self.iter_mut().filter_map(|(at, thing)| (!is_wanted(thing)).then_some(at)).collect();
        unwanted.into_iter().for_each(|at| drop(self.remove(at)));
    }

    fn place_at(&mut self, at: u64) -> &mut Option<T> {
        let new = || Page { used: 0, places: (0..PAGE).map(|_| None).collect() };
        let page = self.pages.entry(at / PAGE).or_insert_with(new);
        page.used |= 1 << place(at);
        &mut page.places[place(at)]
    }
}

fn place(at: u64) -> usize {
    (at % PAGE) as usize
}

/// A map from tags to what belongs to each: a client's requests lie close together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ByTag<T>(BTreeMap<u64, Slots<T>>);

impl<T> Default for ByTag<T> {
    fn default() -> ByTag<T> {
        ByTag(BTreeMap::new())
    }
}

impl<T> ByTag<T> {
    /// What belongs to `tag`.
    pub fn get(&self, tag: Tag) -> Option<&T> {
        self.0.get(&tag.client)?.get(tag.seq)
    }

    /// Whether something does.
    pub fn contains(&self, tag: Tag) -> bool {
        self.get(tag).is_some()
    }

    /// From now on this belongs to `tag`; hands back what did.
    pub fn insert(&mut self, tag: Tag, thing: T) -> Option<T> {
        self.0.entry(tag.client).or_default().insert(tag.seq, thing)
    }

    /// Takes what belongs to `tag`.
    pub fn remove(&mut self, tag: Tag) -> Option<T> {
        let of_client = self.0.get_mut(&tag.client)?;
        let thing = of_client.remove(tag.seq)?;
        if of_client.is_empty() {
            self.0.remove(&tag.client);
        }
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u64, u8),
        Default(u64),
        Remove(u64),
        PopThrough(u64),
        KeepEven,
    }

    fn act() -> impl Strategy<Value = Act> {
        let at = || prop_oneof![0..100u64, 1000..1010u64, Just(u64::MAX / 2)];
        prop_oneof![
            4 => (at(), any::<u8>()).prop_map(|(at, thing)| Act::Insert(at, thing)),
            1 => at().prop_map(Act::Default),
            3 => at().prop_map(Act::Remove),
            2 => at().prop_map(Act::PopThrough),
            1 => Just(Act::KeepEven),
        ]
    }

    fn pop_through(map: &mut BTreeMap<u64, u8>, last: u64) -> Option<(u64, u8)> {
        map.first_entry().filter(|first| *first.key() <= last).map(|first| first.remove_entry())
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds(acts in prop::collection::vec(act(), 0..200), from in 0..1010u64) {
            let (mut slots, mut map) = (Slots::default(), BTreeMap::new());
            for act in acts {
                match act {
                    Act::Insert(at, thing) => prop_assert_eq!(slots.insert(at, thing), map.insert(at, thing)),
                    Act::Default(at) => {
                        prop_assert_eq!(slots.get_or_default(at), map.entry(at).or_default());
                    }
                    Act::Remove(at) => prop_assert_eq!(slots.remove(at), map.remove(&at)),
                    Act::PopThrough(last) => {
                        prop_assert_eq!(slots.pop_through(last), pop_through(&mut map, last));
                    }
                    Act::KeepEven => {
                        slots.retain(|thing| *thing % 2 == 0);
                        map.retain(|_, thing| *thing % 2 == 0);
                    }
                }
                prop_assert_eq!(slots.len(), map.len());
            }
            let held: Vec<(u64, u8)> = slots.from(from).map(|(at, thing)| (at, *thing)).collect();
            let wanted: Vec<(u64, u8)> = map.range(from..).map(|(at, thing)| (*at, *thing)).collect();
            prop_assert_eq!(held, wanted);
            prop_assert_eq!(slots.last(), map.last_key_value().map(|(at, thing)| (*at, thing)));
            let mut again = Slots::default();
            map.iter().for_each(|(at, thing)| _ = again.insert(*at, *thing));
            prop_assert_eq!(again, slots, "only the content counts");
        }
    }
}
