//! A map from numbers that lie close together to what belongs to each: instances under way, the open requests
//! of one client.
//!
//! Owns nothing but the form: pages of [`PAGE`] places each, in order. Where neighbours are looked up one after
//! another, as on the way of every request, that is an index and seldom more; and a hostile number far away
//! costs one page, not all the places between. The roles use it; it knows nothing of them.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use crate::types::Tag;

/// How many places a page has.
const PAGE: u64 = 32;

/// How many empty pages are kept, so that a map that moves on needs no new memory.
const SPARE: usize = 64;

/// How many maps of clients without requests are kept, for the same reason.
const SPARE_CLIENTS: usize = 1024;

/// The map. Two of the same content are equal, however they came to it.
#[derive(Clone, Debug)]
pub struct Slots<T> {
    /// In order of their numbers; none of them is empty.
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

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { pages: VecDeque::new(), len: 0, spare: Vec::new() }
    }
}

impl<T: PartialEq> PartialEq for Slots<T> {
    fn eq(&self, other: &Slots<T>) -> bool {
        self.pages == other.pages
    }
}

impl<T: Eq> Eq for Slots<T> {}

impl<T: Hash> Hash for Slots<T> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.pages.hash(to);
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
        let page = self.find(at / PAGE).ok()?;
        self.pages[page].places[place(at)].as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        let page = self.find(at / PAGE).ok()?;
        self.pages[page].places[place(at)].as_mut()
    }

    /// Puts something at `at`; hands back what was there.
    pub fn insert(&mut self, at: u64, thing: T) -> Option<T> {
        let page = self.page(at / PAGE);
        page.used |= 1 << place(at);
        let before = page.places[place(at)].replace(thing);
        self.len += usize::from(before.is_none());
        before
    }

    /// What is at `at`; if nothing is, the default is from now on.
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

    /// Takes what is at `at`.
    pub fn remove(&mut self, at: u64) -> Option<T> {
        let page = self.find(at / PAGE).ok()?;
        self.take(page, place(at))
    }

    /// Takes the first, if it is at or below `last`.
    pub fn pop_through(&mut self, last: u64) -> Option<(u64, T)> {
        let (at, _) = self.first().filter(|(at, _)| *at <= last)?;
        Some((at, self.take(0, place(at))?))
    }

    /// The lowest number that has something, and that.
    pub fn first(&self) -> Option<(u64, &T)> {
        let page = self.pages.front()?;
        page.at(page.used.trailing_zeros())
    }

    /// The highest.
    pub fn last(&self) -> Option<(u64, &T)> {
        let page = self.pages.back()?;
        page.at(page.used.ilog2())
    }

    /// All, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.from(0)
    }

    /// Those from `first` on, in order.
    pub fn from(&self, first: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let page = self.find(first / PAGE).unwrap_or_else(|page| page);
        let things = self.pages.range(page..).flat_map(|page| {
            let places = page.places.iter().enumerate();
            places.map(|(place, thing)| (page.number * PAGE + place as u64, thing))
        });
        things.filter_map(move |(at, thing)| Some((at, thing.as_ref().filter(|_| at >= first)?)))
    }

    /// All, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (u64, &mut T)> {
        let things = self.pages.iter_mut().flat_map(|page| {
            let (number, places) = (page.number, page.places.iter_mut().enumerate());
            places.map(move |(place, thing)| (number * PAGE + place as u64, thing))
        });
        things.filter_map(|(at, thing)| Some((at, thing.as_mut()?)))
    }

    /// All things, in order.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_iter().flat_map(|page| page.places).flatten()
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&mut T) -> bool) {
        let unwanted: Vec<u64> =
            self.iter_mut().filter_map(|(at, thing)| (!is_wanted(thing)).then_some(at)).collect();
        unwanted.into_iter().for_each(|at| drop(self.remove(at)));
    }

    /// Where the page of that number is, or would be.
    fn find(&self, number: u64) -> Result<usize, usize> {
        // Nearly always there are no gaps between pages.
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

/// A map from tags to what belongs to each: a client's requests lie close together.
#[derive(Clone, Debug)]
pub struct ByTag<T> {
    clients: BTreeMap<u64, Slots<T>>,
    spare: Vec<Slots<T>>,
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
    /// What belongs to `tag`.
    pub fn get(&self, tag: Tag) -> Option<&T> {
        self.clients.get(&tag.client)?.get(tag.seq)
    }

    /// Whether something does.
    pub fn contains(&self, tag: Tag) -> bool {
        self.get(tag).is_some()
    }

    /// What belongs to so many tags of a client, from this one on.
    pub fn run(&self, first: Tag, count: u64) -> impl Iterator<Item = &T> {
        let of_client = self.clients.get(&first.client);
        let things = of_client.into_iter().flat_map(move |of_client| of_client.from(first.seq));
        things.take_while(move |(seq, _)| *seq - first.seq < count).map(|(_, thing)| thing)
    }

    /// From now on this belongs to `tag`; hands back what did.
    pub fn insert(&mut self, tag: Tag, thing: T) -> Option<T> {
        let new = || self.spare.pop().unwrap_or_default();
        self.clients.entry(tag.client).or_insert_with(new).insert(tag.seq, thing)
    }

    /// Takes what belongs to `tag`.
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
