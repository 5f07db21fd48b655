//! The worlds by their names, and their constructors.
//!
//! Owns the list of worlds. Each world reports its own limits ([`Backend::lacks`]).

use std::fmt;

use super::backend::{Backend, BackendError, Setup};
use super::process_backend::ProcessBackend;
use super::sim::Sim;

/// The world in which labs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Simulated: one process, virtual time, repeats from its seed.
    Sim,
    /// Real processes, raw IP, a network namespace each; as root or in a user namespace.
    Raw,
    /// Real processes on loopback, UDP multicast; links cannot fail there.
    Udp,
}

impl Kind {
    /// Whether many can run at once: simulated worlds do not disturb each other.
    pub fn is_simulated(self) -> bool {
        self == Kind::Sim
    }

    /// Makes a world.
    ///
    /// # Errors
    /// When this world is not available here.
    pub fn open(self, setup: &Setup) -> Result<Box<dyn Backend>, BackendError> {
        Ok(match self {
            Kind::Sim => Box::new(Sim::new(setup)?),
            Kind::Raw => Box::new(ProcessBackend::raw(setup).map_err(|error| {
                let remedy = "cannot make hosts that speak raw IP; be root, or allow unprivileged user \
                              namespaces (sysctl user.max_user_namespaces), or use --on udp or --on sim";
                BackendError::Broken(anyhow::Error::from(error).context(remedy))
            })?),
            Kind::Udp => Box::new(ProcessBackend::udp(setup)?),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Sim => "sim",
            Kind::Raw => "raw",
            Kind::Udp => "udp",
        })
    }
}
