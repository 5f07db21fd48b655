//! The orders that the switch accepts: one order a line.
//!
//! | line | means |
//! | --- | --- |
//! | `clock MICROS` | the clock shows this now |
//! | `link FROM TO CUT LOSS DUPLICATE CORRUPT DELAY JITTER` | ports, 0 or 1, three shares, microseconds |
//! | `flush` | the record is to be on file, up to now |
//! | `losses` | how many frames have been lost in the switch itself? |
//!
//! The switch answers an order with `done` once it is in force, and the question with `lost UNHEARD UNSENT`
//! ([`Losses`]). Before the first order it prints `ready`. Frames already in flight arrive as planned.

use std::fmt;
use std::str::FromStr;

use upaxos_core::types::Micros;

use crate::link::Link;

/// One order, or one question, to the switch.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the table of the module says it")]
pub enum Order {
    Clock(Micros),
    Link { from: usize, to: usize, link: Link },
    Flush,
    Losses,
}

/// Frames that the switch has lost although no link had to lose them: the machine is too slow for the traffic of
/// its hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames that arrived while the switch's own queue was full.
    pub unheard: u64,
    /// Frames that their port did not accept.
    pub unsent: u64,
}

/// The line that is not an order.
#[derive(Debug, thiserror::Error)]
#[error("expected `clock …`, `link …` with eight fields, `flush` or `losses`, not {0:?}")]
pub struct NoOrder(String);

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Clock(now) => write!(f, "clock {}", now.0),
            Order::Link { from, to, link } => {
                let Link { is_cut, loss, duplicate, corrupt, delay, jitter } = link;
                let cut = u8::from(*is_cut);
                write!(f, "link {from} {to} {cut} {loss} {duplicate} {corrupt} {} {}", delay.0, jitter.0)
            }
            Order::Flush => f.write_str("flush"),
            Order::Losses => f.write_str("losses"),
        }
    }
}

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(line: &str) -> Result<Order, NoOrder> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let order = match fields[..] {
            ["clock", now] => now.parse().ok().map(|now| Order::Clock(Micros(now))),
            ["link", from, to, ref link @ ..] => parse_link(from, to, link),
            ["flush"] => Some(Order::Flush),
            ["losses"] => Some(Order::Losses),
            _ => None,
        };
        order.ok_or_else(|| NoOrder(line.to_owned()))
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost {} {}", self.unheard, self.unsent)
    }
}

impl FromStr for Losses {
    type Err = NoOrder;

    fn from_str(line: &str) -> Result<Losses, NoOrder> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let losses = match fields[..] {
            ["lost", unheard, unsent] => unheard.parse().ok().zip(unsent.parse().ok()),
            _ => None,
        };
        let (unheard, unsent) = losses.ok_or_else(|| NoOrder(line.to_owned()))?;
        Ok(Losses { unheard, unsent })
    }
}

fn parse_link(from: &str, to: &str, fields: &[&str]) -> Option<Order> {
    let [cut, loss, duplicate, corrupt, delay, jitter] = *fields else { return None };
    let link = Link {
        is_cut: cut == "1",
        loss: loss.parse().ok()?,
        duplicate: duplicate.parse().ok()?,
        corrupt: corrupt.parse().ok()?,
        delay: Micros(delay.parse().ok()?),
        jitter: Micros(jitter.parse().ok()?),
    };
    Some(Order::Link { from: from.parse().ok()?, to: to.parse().ok()?, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        let link = Link {
            is_cut: true,
            loss: 0.25,
            duplicate: 0.1,
            corrupt: 1e-6,
            delay: Micros(70),
            jitter: Micros(5),
        };
        let link = Order::Link { from: 3, to: 0, link };
        for order in [Order::Clock(Micros(12)), link, Order::Flush, Order::Losses] {
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
        }
        assert!("link 1 2".parse::<Order>().is_err());
        let losses = Losses { unheard: 3, unsent: 1 };
        assert_eq!(losses.to_string().parse::<Losses>().unwrap(), losses);
        assert!("done".parse::<Losses>().is_err());
    }
}
