//! The lab's API for scripts, class by class.
//!
//! Owns the names that scripts use, and turns their arguments into acts. Every function is registered through
//! [`registry`], with its documentation. `scripts/meta/lab.lua` is generated from there ([`meta`]).

pub mod registry;

mod args;
mod expect;
mod faults;
mod folder;
mod group;
mod load;
pub mod meta;
mod module;
mod node;
mod objects;
mod requests;
mod task;

use std::rc::Rc;

use mlua::Lua;

pub use args::TEST;
pub use expect::{EXPECT, expect, unfinished};
pub use folder::{Folder, beside};
pub use module::{Lab, Labs, Module, say};
pub use objects::Group;

use super::error::LabError;
use super::run::Run;

/// The lab in play.
///
/// # Errors
/// While the script is still loading.
pub fn run(lua: &Lua) -> Result<Rc<Run>, LabError> {
    let run = lua.app_data_ref::<Rc<Run>>().map(|run| Rc::clone(&run));
    run.ok_or_else(|| {
        LabError::misuse(
            "this works inside of a lab only: put it into the function that is given to `lab.test`",
        )
    })
}
