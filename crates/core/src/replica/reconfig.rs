//! The group: its members, its changes, and the registration of data directories.

pub mod changes;
pub mod membership;
pub mod registration;
