//! A map for keys that lie close together, such as the instances in flight or the open requests of one client.
//!
//! This module owns the layout only: pages of [`PAGE`] entries each, in order. A lookup next to the previous one,
//! which is the usual case for every request, takes an index and seldom more. A hostile key far away costs one
//! page, not all the entries between. The roles use this map; it knows nothing of them.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::types::Tag;

/// The number of entries per page.
const PAGE: u64 = 32;

/// The number of empty pages that are kept, so that a map that moves on needs no new memory.
const SPARE: usize = 64;

/// The number of empty maps of clients that are kept, for the same reason.
const SPARE_CLIENTS: usize = 1024;

/// The map. Two maps with the same content are equal, whatever their histories.
#[derive(Clone, Debug)]
pub struct PagedMap<T> {
    /// The pages in the order of their numbers. No page is empty.
    pages: VecDeque<Page<T>>,
    len: usize,
    spare: Vec<Vec<Option<T>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Page<T> {
    number: u64,
    used: u32,
    places: Vec<Option<T>>,
}

impl<T> Default for PagedMap<T> {
    fn default() -> PagedMap<T> {
        PagedMap { pages: VecDeque::new(), len: 0, spare: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for PagedMap<T> {
    fn eq(&self, other: &PagedMap<T>) -> bool {
        self.pages == other.pages
    }
}

impl<T: Eq> Eq for PagedMap<T> {}

impl<T: Hash> Hash for PagedMap<T> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.pages.hash(to);
    }
}

impl<T> PagedMap<T> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry at `at`.
    pub fn get(&self, at: u64) -> Option<&T> {
        let page = self.find(at / PAGE).ok()?;
        self.pages[page].places[place(at)].as_ref()
    }

    /// The entry at `at`, mutable.
    pub fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        let page = self.find(at / PAGE).ok()?;
        self.pages[page].places[place(at)].as_mut()
    }

    /// Puts an entry at `at` and returns the previous one.
    pub fn insert(&mut self, at: u64, thing: T) -> Option<T> {
        let page = self.page(at / PAGE);
        page.used |= 1 << place(at);
        let before = page.places[place(at)].replace(thing);
        self.len += usize::from(before.is_none());
        before
    }

    /// The entry at `at`, mutable. If there is none, the default is inserted first.
    pub fn get_or_default(&mut self, at: u64) -> &mut T
    where
        T: Default,
    {
        let index = self.index_of_page(at / PAGE);
        let page = &mut self.pages[index];
        self.len += usize::from(page.used & (1 << place(at)) == 0);
        page.used |= 1 << place(at);
        page.places[place(at)].get_or_insert_default()
    }

    /// Removes and returns the entry at `at`.
    pub fn remove(&mut self, at: u64) -> Option<T> {
        let page = self.find(at / PAGE).ok()?;
        self.take(page, place(at))
    }

    /// Removes and returns the first entry, if its key is at most `last`.
    pub fn pop_through(&mut self, last: u64) -> Option<(u64, T)> {
        let (at, _) = self.first().filter(|(at, _)| *at <= last)?;
        Some((at, self.take(0, place(at))?))
    }

    /// The lowest key, with its entry.
    pub fn first(&self) -> Option<(u64, &T)> {
        let page = self.pages.front()?;
        page.at(page.used.trailing_zeros())
    }

    /// The highest key, with its entry.
    pub fn last(&self) -> Option<(u64, &T)> {
        let page = self.pages.back()?;
        page.at(page.used.ilog2())
    }

    /// All entries with their keys, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.from(0)
    }

    /// The entries with keys from `first` on, in order.
    pub fn from(&self, first: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let page = self.find(first / PAGE).unwrap_or_else(|page| page);
        let things = self.pages.range(page..).flat_map(|page| {
            let places = page.places.iter().enumerate();
            places.map(|(place, thing)| (page.number * PAGE + place as u64, thing))
        });
        things.filter_map(move |(at, thing)| Some((at, thing.as_ref().filter(|_| at >= first)?)))
    }

    /// All entries with their keys, in order, mutable.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (u64, &mut T)> {
        let things = self.pages.iter_mut().flat_map(|page| {
            let (number, places) = (page.number, page.places.iter_mut().enumerate());
            places.map(move |(place, thing)| (number * PAGE + place as u64, thing))
        });
        things.filter_map(|(at, thing)| Some((at, thing.as_mut()?)))
    }

    /// All entries without their keys, in order.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_iter().flat_map(|page| page.places).flatten()
    }

    /// Keeps the entries for which `is_wanted` returns true, and removes the others.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&mut T) -> bool) {
        let unwanted: Vec<u64> =
            self.iter_mut().filter_map(|(at, thing)| (!is_wanted(thing)).then_some(at)).collect();
        unwanted.into_iter().for_each(|at| drop(self.remove(at)));
    }

    /// The index of the page with this number: `Err` with the index where it would be inserted if there is none.
    fn find(&self, number: u64) -> Result<usize, usize> {
        // There is nearly always no gap between pages.
        let first = self.pages.front().map_or(0, |page| page.number);
        let guess = number.wrapping_sub(first) as usize;
        match self.pages.get(guess) {
            Some(page) if page.number == number => Ok(guess),
            _ => self.pages.binary_search_by_key(&number, |page| page.number),
        }
    }

    fn page(&mut self, number: u64) -> &mut Page<T> {
        let index = self.index_of_page(number);
        &mut self.pages[index]
    }

    fn index_of_page(&mut self, number: u64) -> usize {
        self.find(number).unwrap_or_else(|index| {
            let places = self.spare.pop().unwrap_or_else(|| (0..PAGE).map(|_| None).collect());
            self.pages.insert(index, Page { number, used: 0, places });
            index
        })
    }

    fn take(&mut self, index: usize, place: usize) -> Option<T> {
        let page = &mut self.pages[index];
        let thing = page.places[place].take()?;
        page.used &= !(1 << place);
        self.len -= 1;
        if page.used == 0
            && let Some(page) = self.pages.remove(index)
            && self.spare.len() < SPARE
        {
            self.spare.push(page.places);
        }
        Some(thing)
    }
}

impl<T> Page<T> {
    fn at(&self, place: u32) -> Option<(u64, &T)> {
        Some((self.number * PAGE + u64::from(place), self.places[place as usize].as_ref()?))
    }
}

fn place(at: u64) -> usize {
    (at % PAGE) as usize
}

/// A map from tags to entries, for which the tags of one client lie close together.
#[derive(Clone, Debug)]
pub struct ByTag<T> {
    clients: BTreeMap<u64, PagedMap<T>>,
    spare: Vec<PagedMap<T>>,
}

impl<T> Default for ByTag<T> {
    fn default() -> ByTag<T> {
        ByTag { clients: BTreeMap::new(), spare: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for ByTag<T> {
    fn eq(&self, other: &ByTag<T>) -> bool {
        self.clients == other.clients
    }
}

impl<T: Eq> Eq for ByTag<T> {}

impl<T: Hash> Hash for ByTag<T> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.clients.hash(to);
    }
}

impl<T> ByTag<T> {
    /// The entry of `tag`.
    pub fn get(&self, tag: Tag) -> Option<&T> {
        self.clients.get(&tag.client)?.get(tag.seq)
    }

    /// Whether `tag` has an entry.
    pub fn contains(&self, tag: Tag) -> bool {
        self.get(tag).is_some()
    }

    /// The entries of `count` consecutive tags of a client, from `first` on.
    pub fn run(&self, first: Tag, count: u64) -> impl Iterator<Item = &T> {
        let of_client = self.clients.get(&first.client);
        let things = of_client.into_iter().flat_map(move |of_client| of_client.from(first.seq));
        things.take_while(move |(seq, _)| *seq - first.seq < count).map(|(_, thing)| thing)
    }

    /// Sets the entry of `tag` and returns the previous one.
    pub fn insert(&mut self, tag: Tag, thing: T) -> Option<T> {
        let new = || self.spare.pop().unwrap_or_default();
        self.clients.entry(tag.client).or_insert_with(new).insert(tag.seq, thing)
    }

    /// Removes and returns the entry of `tag`.
    pub fn remove(&mut self, tag: Tag) -> Option<T> {
        let of_client = self.clients.get_mut(&tag.client)?;
        let thing = of_client.remove(tag.seq)?;
        if of_client.is_empty()
            && let Some(of_client) = self.clients.remove(&tag.client)
            && self.spare.len() < SPARE_CLIENTS
        {
            self.spare.push(of_client);
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
            let (mut slots, mut map) = (PagedMap::default(), BTreeMap::new());
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
            let mut again = PagedMap::default();
            map.iter().for_each(|(at, thing)| _ = again.insert(*at, *thing));
            prop_assert_eq!(again, slots, "only the content counts");
        }
    }
}
