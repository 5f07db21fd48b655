//! What scripts cost. Measured by hand in release, because a busy machine must not fail a build.
//!
//! `cargo test --release -p upaxos-node --test script_cost -- --ignored --nocapture`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use upaxos_core::hooks::{Applied, Hooks};
use upaxos_core::script_state::ScriptState;
use upaxos_core::types::{Instance, Value};
use upaxos_script::{Limits, Scripts};

const CALLS: u64 = 1_000_000;

fn busy() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of the thread").into()
}

/// Applies a million values, ten thousand of them different. Returns the processor time.
fn cost(name: &str, script: &Path, value: impl Fn(u64) -> String) -> Duration {
    let scripts = Scripts::load(&[script.to_owned()], Limits::default()).expect("the script loads");
    let values: Vec<Value> = (0..10_000).map(|i| Value::from(value(i).as_str())).collect();
    let mut state = ScriptState::default();
    let (began, began_at) = (busy(), Instant::now());
    for call in 0..CALLS {
        let value = &values[(call % values.len() as u64) as usize];
        let applied = Applied { value, instance: Instance(call + 1), tag: None };
        scripts.apply(0, &mut state, &applied).expect("it applies");
        state.commit();
    }
    let took = busy() - began;
    println!(
        "{name}: {CALLS} calls in {took:.2?} of one core ({:.2?} by the clock), {} keys",
        began_at.elapsed(),
        state.len()
    );
    took
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hooks").join(name)
}

/// A call with one change must cost less than a microsecond. A script's own work comes on top. It is printed for
/// comparison: a pattern match on the value, and two shipped scripts.
#[test]
#[ignore = "a measurement: run it in release, on an idle machine"]
fn a_million_apply_calls_cost_less_than_a_second_of_one_core() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = |name: &str, body: &str| {
        let path = folder.path().join(name).with_extension("lua");
        let text = format!("return {{ apply = function(st, value) {body} end }}");
        std::fs::write(&path, text).expect("a script is written");
        path
    };
    let value = |i| format!("key-{} value-{i}", i % 1_000);
    cost("nothing", &body("nothing", ""), value);
    let add = cost("st:add('count', 1)", &body("add", "st:add('count', 1)"), value);
    let set = cost("st:set('last', value)", &body("set", "st:set('last', value)"), value);
    let apart = "local key, rest = value:match('^(%S+) (.*)$') st:set(key, rest)";
    cost("value:match and st:set", &body("apart", apart), value);
    cost("kv.lua", &shipped("kv.lua"), |i| format!("set {}", value(i)));
    cost("ids.lua", &shipped("ids.lua"), |i| format!("take orders worker-{} 3", i % 100));
    let most = Duration::from_secs(1);
    assert!(add < most && set < most, "add {add:?}, set {set:?}");
}
