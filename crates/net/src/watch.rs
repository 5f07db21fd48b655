//! Checks whether the network is still the one that the socket was opened on.
//!
//! This module owns the known state of the network and the news about it for people. It checks once a second, and
//! reports each change once. The socket's options name interfaces by number, and nothing fixes the source address.
//! So a changed address only needs a line in the log. If an interface was created anew, its new number is set on
//! the socket. The module never decides about datagrams: they are sent and refused as before.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::OpenError;
use super::mmsg::Refused;
use super::place::Place;

/// The interval between two checks of the network.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The maximum number of unread changes. The oldest are dropped first.
const MOST_NEWS: usize = 16;

/// A change of the network. Each one is reported once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing can be sent or received any more; this is the reason.
    Lost(String),
    /// The network works again, or the route to the group has changed without an interruption; this is the new
    /// state.
    Back(String),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Lost(why) => write!(f, "has lost the network: {why}"),
            News::Back(how) => write!(f, "has the network: {how}"),
        }
    }
}

/// The action that the socket needs in order to follow the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// None: the network is unchanged, or gone.
    Stay,
    /// Set another interface in the socket's options, in place of the one with this index.
    Follow(Option<u32>),
}

/// The reason why no datagram reaches the group.
#[derive(Debug)]
struct Trouble {
    why: String,
    /// Whether the network seems to work, and refuses datagrams nevertheless.
    is_refusal: bool,
}

/// The state of the network; see the [module](self).
#[derive(Debug)]
pub(super) struct Watch {
    place: Place,
    next: Instant,
    trouble: Option<Trouble>,
    news: VecDeque<News>,
    /// The number of datagrams that the system took since the last check.
    taken: u64,
    /// The last refusal since then.
    refused: Option<Errno>,
    /// The report for the time when the socket has followed; `None` if it need not follow.
    behind: Option<String>,
}

impl Watch {
    pub fn new(place: Place) -> Watch {
        Watch {
            place,
            next: Instant::now() + LOOK,
            trouble: None,
            news: VecDeque::new(),
            taken: 0,
            refused: None,
            behind: None,
        }
    }

    /// The time until the next check; zero when it is due.
    pub fn until_due(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Notes how many datagrams were sent and how many refused.
    pub fn note(&mut self, offered: usize, refused: Refused) {
        self.taken += (offered as u64).saturating_sub(refused.count);
        self.refused = refused.last.filter(|errno| is_about_network(*errno)).or(self.refused);
    }

    /// Compares the network with its last known state. Returns the action that the socket needs.
    pub fn compare(&mut self, found: Result<Place, OpenError>) -> Step {
        self.next = Instant::now() + LOOK;
        match found {
            Err(error) => {
                self.lose(error.to_string(), false);
                Step::Stay
            }
            Ok(place) if place.kind != self.place.kind => {
                let (address, was) = (place.destination, self.place.kind);
                self.lose(format!("{address} is no {was} of this host any more"), false);
                Step::Stay
            }
            Ok(place) => self.take(place),
        }
    }

    fn take(&mut self, place: Place) -> Step {
        let before = std::mem::replace(&mut self.place, place);
        let is_other = self.place.index() != before.index() || !self.place.is_listened_for();
        let is_behind = self.behind.is_some();
        let was_away = self.trouble.as_ref().is_some_and(|trouble| !trouble.is_refusal);
        let is_moved = self.place.source != before.source;
        if !(is_other || was_away || is_moved) {
            self.judge_sends();
            return Step::Stay;
        }
        let how = match () {
            () if is_moved => format!(" (before: {})", before.source),
            () if was_away => " again".to_owned(),
            () => "; the interface was made anew".to_owned(),
        };
        let how = self.behind.take().unwrap_or_else(|| self.place.describe() + &how);
        if is_other || is_behind {
            self.behind = Some(how);
            return Step::Follow(before.index());
        }
        self.is_well(how);
        Step::Stay
    }

    /// Notes that the socket has followed.
    pub fn has_followed(&mut self) {
        if let Some(how) = self.behind.take() {
            self.is_well(how);
        }
    }

    /// Notes that the socket could not follow. The next check tries again.
    pub fn cannot_follow(&mut self, error: &OpenError) {
        self.lose(error.to_string(), false);
    }

    /// Earlier refusals concern the old state of the network, so they are forgotten.
    fn is_well(&mut self, how: String) {
        (self.taken, self.refused, self.trouble) = (0, None, None);
        self.tell(News::Back(how));
    }

    /// Judges the refusals while the network seems to work: then datagrams should be taken.
    fn judge_sends(&mut self) {
        let (taken, refused) = (std::mem::take(&mut self.taken), self.refused.take());
        match (refused, &self.trouble) {
            (Some(errno), None) => self.lose(self.refusal(errno), true),
            (None, Some(_)) if taken > 0 => self.is_well(format!("{} again", self.place.describe())),
            _ => {}
        }
    }

    fn lose(&mut self, why: String, is_refusal: bool) {
        (self.taken, self.refused) = (0, None);
        if self.trouble.is_none() {
            self.tell(News::Lost(why.clone()));
        }
        self.trouble = Some(Trouble { why, is_refusal });
    }

    fn tell(&mut self, news: News) {
        // Not every program reads the news.
        if self.news.len() == MOST_NEWS {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }

    fn refusal(&self, errno: Errno) -> String {
        cannot_send(self.place.destination, errno)
    }

    /// The reason why no datagram reaches the group, as far as this host knows.
    pub fn trouble(&self) -> Option<String> {
        let why = self.trouble.as_ref().map(|trouble| trouble.why.clone());
        why.or_else(|| self.refused.map(|errno| self.refusal(errno)))
    }

    /// The next unread change.
    pub fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The group's address, with the route at the time when the network last worked.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// The text for a system that refuses to send, with its error.
fn cannot_send(to: Ipv4Addr, errno: Errno) -> String {
    format!(
        "cannot send to {to}: {}; check interface, route and firewall of this host",
        std::io::Error::from(errno)
    )
}

/// Whether a refusal concerns the network, and not one datagram or a full queue.
fn is_about_network(errno: Errno) -> bool {
    use Errno::*;
    ![EMSGSIZE, EINTR, EAGAIN, ENOBUFS, ENOMEM].contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::super::interface::Interface;
    use super::super::place::Kind;
    use super::*;

    fn place(index: u32, last: u8) -> Place {
        let (name, source) = ("eth0".to_owned(), Ipv4Addr::new(10, 0, 0, last));
        let named = Some(Interface { name, index, address: source, is_loopback: false });
        Place {
            destination: Ipv4Addr::new(10, 0, 0, 255),
            kind: Kind::Broadcast,
            named,
            member: None,
            source,
        }
    }

    fn gone() -> Result<Place, OpenError> {
        Err(OpenError::BadDestination { address: Ipv4Addr::new(10, 0, 0, 255), why: "gone" })
    }

    fn told(watch: &mut Watch) -> Vec<String> {
        std::iter::from_fn(|| watch.news()).map(|news| news.to_string()).collect()
    }

    #[test]
    fn a_network_that_goes_and_comes_back_is_told_once_each() {
        let mut watch = Watch::new(place(2, 7));
        for _ in 0..3 {
            assert_eq!(watch.compare(gone()), Step::Stay);
        }
        assert_eq!(told(&mut watch), ["has lost the network: cannot use address 10.0.0.255: gone"]);
        assert!(watch.trouble().is_some());
        for _ in 0..3 {
            assert_eq!(watch.compare(Ok(place(2, 7))), Step::Stay);
        }
        assert_eq!(told(&mut watch), ["has the network: it sends from 10.0.0.7 on eth0 again"]);
        assert_eq!(watch.trouble(), None);
    }

    #[test]
    fn an_interface_with_another_number_is_followed_until_that_succeeds() {
        let mut watch = Watch::new(place(2, 7));
        assert_eq!(watch.compare(Ok(place(3, 8))), Step::Follow(Some(2)));
        watch.cannot_follow(&gone().expect_err("an error"));
        assert_eq!(watch.compare(Ok(place(3, 8))), Step::Follow(Some(3)), "once more");
        watch.has_followed();
        assert_eq!(watch.compare(Ok(place(3, 8))), Step::Stay);
        let lines = told(&mut watch);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1], "has the network: it sends from 10.0.0.8 on eth0 (before: 10.0.0.7)");
    }

    #[test]
    fn refusals_are_told_once_until_something_is_taken_again() {
        let mut watch = Watch::new(place(2, 7));
        let refused = Refused { count: 1, last: Some(Errno::EPERM) };
        watch.note(1, refused);
        assert!(
            watch
                .trouble()
                .is_some_and(|why| why.contains("cannot send to 10.0.0.255: Operation not permitted"))
        );
        for _ in 0..3 {
            watch.note(1, refused);
            watch.compare(Ok(place(2, 7)));
        }
        watch.compare(Ok(place(2, 7)));
        assert_eq!(told(&mut watch).len(), 1, "nothing was taken since");
        watch.note(1, Refused::default());
        watch.compare(Ok(place(2, 7)));
        assert_eq!(told(&mut watch), ["has the network: it sends from 10.0.0.7 on eth0 again"]);
        watch.note(2, Refused { count: 2, last: Some(Errno::EMSGSIZE) });
        watch.compare(Ok(place(2, 7)));
        assert_eq!(told(&mut watch), [""; 0], "that speaks of two datagrams, not of the network");
    }
}
