//! `on_learn` and `on_role`: reports to scripts after the fact.
//!
//! Owns a bounded queue, so slow scripts never delay the node. Notices that do not fit are counted and reported. An
//! error of such a hook is logged, and has no other effect.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use log::warn;
use upaxos_core::hooks::Hooks as _;
use upaxos_core::types::{Instance, Value};

use super::Scripts;

/// The maximum number of queued notices.
pub const MAX_NOTICES: usize = 16_384;

/// An event that scripts may listen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An instance was learned; with its value as reads return it.
    Learned(Instance, Value),
    /// The node's new role (`leads`, `follows`, …), the leader that it follows, and the ballot.
    Role(&'static str, Option<u16>, String),
}

#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: RefCell<VecDeque<Notice>>,
    lost: Cell<u64>,
}

impl Scripts {
    /// Whether any script listens to learned values.
    pub fn listens(&self) -> bool {
        self.engines.iter().any(|engine| engine.hooks.on_learn.is_some())
    }

    /// Queues a notice for later delivery.
    pub fn note(&self, notice: Notice) {
        let mut waiting = self.notices.waiting.borrow_mut();
        if waiting.len() < MAX_NOTICES {
            waiting.push_back(notice);
        } else {
            self.notices.lost.set(self.notices.lost.get() + 1);
        }
    }

    /// Delivers as many notices as this turn has time for. Returns true when some are left.
    pub fn tell(&self) -> bool {
        let lost = self.notices.lost.take();
        if lost > 0 {
            warn!("scripts are too slow: {lost} notices were dropped");
        }
        while self.has_time() {
            let Some(notice) = self.notices.waiting.borrow_mut().pop_front() else { return false };
            self.tell_one(&notice);
        }
        !self.notices.waiting.borrow().is_empty()
    }

    fn tell_one(&self, notice: &Notice) {
        for engine in &self.engines {
            let (name, told) = match (notice, &engine.hooks.on_learn, &engine.hooks.on_role) {
                (Notice::Learned(instance, value), Some(function), _) => {
                    engine.about.instance.set(Some(*instance));
                    engine.about.tag.set(None);
                    let value = mlua::BString::from(value.as_bytes().to_vec());
                    ("on_learn", engine.tell(function, (value, engine.about_object())))
                }
                (Notice::Role(role, leader, ballot), _, Some(function)) => {
                    ("on_role", engine.tell(function, (*role, *leader, ballot.as_str())))
                }
                _ => continue,
            };
            self.took(engine);
            if let Err(broken) = told {
                warn!("script {}: {name} failed: {}", engine.name, broken.text());
            }
        }
    }
}
