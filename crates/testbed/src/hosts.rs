//! The lab's grounds: hosts for real processes. One run makes them, and its end removes them.
//!
//! A network of their own joins the hosts of a [`Hosts`]. A [`Node`] is one daemon on one host. A [`Client`] sends
//! requests to the daemons. The demo and the live tests share all three. Many `Hosts` may exist at once, in one
//! process or in several, and do not hear one another.
//!
//! This module owns processes, namespaces and temporary directories. It never speaks the protocol: even its client
//! is a program on a host.

mod client;
mod error;
mod faults;
mod history;
mod host;
mod isolation;
mod namespaces;
mod network;
mod process;
mod switch;
mod weather;

use std::env;
use std::path::PathBuf;

pub use client::{Answer, Client};
pub use error::HostsError;
pub use host::Host;
pub use isolation::Isolation;
pub use network::Hosts;
pub use process::{Heard, Node, Plan};

/// The path of one of our own programs. Cargo puts them next to the running program.
///
/// # Errors
///
/// [`HostsError::NotBuilt`] if the program is not there. Cargo builds only the programs of the package under test,
/// so the others need `cargo build --workspace` first.
pub fn binary(name: &str) -> Result<PathBuf, HostsError> {
    let own = env::current_exe().map_err(HostsError::io("find the running program"))?;
    let mut dir = own.parent().unwrap_or(&own);
    // Tests run from target/debug/deps, one directory below the programs.
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap_or(dir);
    }
    let path = dir.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        let name = name.to_owned();
        Err(HostsError::NotBuilt { name, path })
    }
}
