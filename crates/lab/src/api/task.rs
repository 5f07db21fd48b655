//! Tasks as a script sees them: functions that run beside its main course.

use mlua::MultiValue;
use upaxos_core::types::Micros;

use super::registry::{Class, Registry, doc};
use super::run;
use crate::error::LabError;
use crate::run::{On, TaskId, Wake};

/// A task that `lab.spawn` or `lab.every` started.
#[derive(Clone, Copy, Debug)]
pub struct Task(pub TaskId);

impl Class for Task {
    const NAME: &'static str = "Task";
    const TEXT: &'static str = "A function that runs beside the others. If it fails, the lab fails.";

    fn describe<R: Registry<Self>>(registry: &mut R) {
        registry.field(doc("done", "boolean", "Whether it has ended."), |lua, task| {
            Ok(run(lua)?.result(task.0).is_some())
        });
        let text = "Waits until it has ended, and returns its result.";
        registry.blocking(doc("await", "(): any", text), |lua, task, (), place| async move {
            let run = run(&lua)?;
            if run.current() == task.0 {
                return Err(LabError::misuse("a task cannot wait for its own end").into());
            }
            loop {
                if let Some(result) = run.result(task.0) {
                    return Ok(result);
                }
                run.wait(Wake { at: Micros(u64::MAX), on: On::End(task.0) }, place.clone()).await;
            }
        });
        registry.method(doc("cancel", "()", "Ends it at its current wait."), |lua, task, ()| {
            run(lua)?.cancel(task.0);
            Ok(MultiValue::new())
        });
    }

    fn show(&self) -> String {
        "a task".into()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
