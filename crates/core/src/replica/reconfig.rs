//! The group: its members, its changes, and the registration of data directories.

pub mod changes;
pub mod group_view;
pub mod membership;
pub mod registration;
