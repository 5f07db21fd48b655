//! The replicated log as a state machine: learned values, sessions, scripts and their digests.

pub mod chain;
pub mod divergence;
pub mod learned_log;
pub mod script_hooks;
pub mod script_states;
pub mod sessions;
