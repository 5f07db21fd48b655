//! Claims about the runtime: what a script may do, how it learns what it may not do, and that it repeats.

mod fake;

use std::sync::{Arc, Mutex};

use super::backends::Kind;
use super::error::{LabError, What};
use super::report::{self, Name};
use super::runner::{Order, play};
use super::script::Script;
use super::verdict::{End, Verdict};
use fake::Fake;

/// Plays the one lab of a script. Returns its verdict and its printed lines.
fn played(text: &str) -> (Verdict, Vec<String>) {
    let script = Script::embedded("test.lua", text);
    let loaded = script.load(1).unwrap_or_else(|trouble| panic!("{trouble}"));
    let said = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&said);
    let say = Arc::new(move |line: &str| kept.lock().unwrap().push(line.to_owned()));
    let order = Order { script: &script, title: &loaded.labs[0].title, seed: 1, out: None, say };
    let verdict = play(&order, &Fake::open).unwrap();
    let said = said.lock().unwrap().clone();
    (verdict, said)
}

/// Plays this text as the body of a lab of three nodes.
fn body(text: &str) -> (Verdict, Vec<String>) {
    played(&format!("lab.test('a lab', {{nodes = 3, spares = 1}}, function(g)\n{text}\nend)"))
}

/// The lines that the body of a lab prints. The lab has to pass.
fn said(text: &str) -> Vec<String> {
    let (verdict, said) = body(text);
    assert_eq!(verdict.end, End::Passed, "{text}");
    said
}

/// The failure of a lab's body, in one line.
fn fails(text: &str) -> String {
    match body(text).0.end {
        End::Failed { trouble, .. } => trouble.to_string(),
        other => panic!("{other:?}: {text}"),
    }
}

fn refusal(text: &str) -> String {
    match Script::embedded("test.lua", text).load(1) {
        Err(trouble) => trouble.to_string(),
        Ok(_) => panic!("it is loaded: {text}"),
    }
}

#[test]
fn what_is_written_is_read_and_outcomes_have_their_fields() {
    let lines = said(
        "local o = g:write('one')
         lab.say(o.status, o.instance, o.value)
         local f = g:client():read_async()
         lab.say(f:await().value, f:await().status, f.done)
         lab.say(g:history(7).status)",
    );
    assert_eq!(lines, ["ok 1 one", "one ok true", "not_yet"]);
}

#[test]
fn time_passes_only_while_every_task_waits() {
    let lines = said(
        "local t = lab.spawn(function(what) lab.sleep('30ms') lab.say(what, lab.now()) return 7 end, 'task')
         lab.say('main', lab.now())
         lab.sleep(0.01)
         lab.say('main', lab.now())
         lab.say(t:await(), lab.now())",
    );
    assert_eq!(lines, ["main 0", "main 0.01", "task 0.03", "7 0.03"]);
}

#[test]
fn what_is_done_every_so_often_ends_with_the_lab_or_before() {
    let lines = said(
        "local n = 0
         local t = lab.every('10ms', function() n = n + 1 end)
         lab.wait_until(function() return n == 3 end)
         t:cancel()
         lab.sleep(1)
         lab.say(n, t.done)",
    );
    assert_eq!(lines, ["3 true"]);
}

#[test]
fn an_expectation_that_does_not_hold_names_both_sides_and_the_line() {
    let cases = [
        ("expect(1):equals(2)", "test.lua:2: expected 2; got 1"),
        ("expect({1, {a = 2}}):equals({1, {a = 3}})", "test.lua:2: expected {1, {a = 3}}; got {1, {a = 2}}"),
        (
            "\n\nexpect(g:write('x').instance, 'where it is'):above(1)",
            "test.lua:4: expected where it is: above 1; got 1",
        ),
        (
            "expect(function() return lab.now() end):within('50ms'):at_least(1)",
            "test.lua:2: expected at least 1 within 0.05 s; got 0.05",
        ),
        (
            "expect(g:write('x')):refused()",
            "test.lua:2: expected the outcome refused; got {instance = 1, status = \"ok\", took = 0.001, value = \"x\"}",
        ),
        ("expect(g:leader()):equals(g:node(1))", "test.lua:2: expected node 1; got node 0"),
        ("expect('abc'):contains('x')", "test.lua:2: expected something with \"x\" in it; got \"abc\""),
        (
            "lab.wait_until(function() return false end, {within = '1s', what = 'rain'})",
            "test.lua:2: expected rain within 1 s; got it did not",
        ),
        (
            "for _, n in ipairs(g:nodes()) do n:crash() end g:leader({within = '1s'})",
            "test.lua:2: expected a leader within 1 s; got no leader",
        ),
        (
            "g:node(1):wait_learned(3, {within = '1s'})",
            "test.lua:2: expected node 1 to have learned 3 within 1 s; got it follows, and has learned 0",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(fails(text), expected, "{text}");
    }
}

#[test]
fn expectations_that_hold_say_nothing() {
    said(
        "expect(1):equals(1) expect({a = {1}}):equals({a = {1}}) expect('x'):differs('y')
         expect(true):is_true() expect(nil):is_nil() expect(false):is_false() expect(3):one_of({1, 3})
         expect(2):at_least(2) expect(2):at_most(2) expect(2):above(1) expect(2):below(3)
         expect('abc'):contains('b') expect({1, 'b'}):contains('b') expect('v12'):matches('^v%d+$')
         expect(g:write('x')):ok() expect(g:node(0)):equals(g:leader())
         expect(function() return lab.now() end):within('1s'):at_least(0.5)",
    );
}

#[test]
fn what_is_misspelt_is_named_with_what_was_meant() {
    let cases = [
        ("g:leeder()", "a Group has no `leeder`; did you mean `leader`?"),
        ("lab.say(g:node(0).leeds)", "a Node has no `leeds`; did you mean `leads`?"),
        ("g:leader({withn = 1})", "there is no option `withn`; did you mean `within`?"),
        ("lab.say(g:write('x').instanse)", "an Outcome has no `instanse`; did you mean `instance`?"),
        ("lab.say(g:node(0):status().stanse)", "a Status has no `stanse`; did you mean `stance`?"),
        ("lab.sleeep(1)", "a lab has no `sleeep`; did you mean `sleep`?"),
        ("lab.say(expct)", "there is no global `expct`; did you mean `expect`?"),
        ("count = 1", "cannot set the global `count`: write `local count`"),
        ("g.size = 4", "cannot set `size` of a Group: it cannot be changed"),
        ("g.leader()", "`leader` is called with a colon: `group:leader(…)`"),
        (
            "g:topology('star', {center = 3})",
            "a shape covers the first group, nodes 0 to 2: a spare has no place in it",
        ),
        ("g:topology('chaned')", "there is no shape `chaned`; did you mean `chained`?"),
        ("g:load({mix = {writes = 1}})", "there is no kind of question `writes`; did you mean `write`?"),
        (
            "g:load({mix = {write = 0}})",
            "a mix with no weight above 0 asks nothing: {write = 3, read = 1}, for example",
        ),
        ("g:load({clients = 0})", "a load has 1 to 10000 clients, not 0"),
        ("g:burst(1e9)", "a load has 1 to 10000 clients, not 1000000000"),
        ("g:burst(5, {clients = 2})", "a burst has `5` requests, by one client each: leave `clients` out"),
        (
            "g:node(4)",
            "there is no node 4: this lab has nodes 0 to 3; `spares = 1` in its options adds another",
        ),
        ("g:write()", "it is `write(value: string, options?: RequestOptions): Outcome`, not `write()`"),
        ("g:network({loss = 2})", "option `loss` is a share from 0 to 1, not 2"),
        (
            "lab.sleep('soon')",
            "a length of time is written \"150ms\" or \"2s\", or is a number of seconds; not \"soon\"",
        ),
        ("g:node(0):crash() g:node(0):crash()", "cannot crash node 0: it does not run"),
        (
            "os.exit()",
            "there is no `os` in labs: they must repeat from their seed, alike in every world; see \
                       scripts/meta/lab.lua for what there is",
        ),
        (
            "expect(1):within('1s')",
            "a value does not change by waiting: give `expect` a function that returns it",
        ),
        (
            "local a, b = {}, {} a.a, b.a = a, b expect(a):equals(b)",
            "cannot compare tables that contain each other: compare their fields",
        ),
        (
            "expect(g:write('x')) lab.sleep(1)",
            "this tests nothing: add a condition, for example `:ok()` or `:equals(…)`",
        ),
        ("lab.test('inner', {}, function() end)", "a lab cannot be declared inside of another"),
        ("local x = nil; lab.say(x.y)", "attempt to index nil with 'y'"),
    ];
    for (text, expected) in cases {
        assert_eq!(fails(text), format!("test.lua:2: {expected}"), "{text}");
    }
}

#[test]
fn a_script_that_cannot_be_loaded_says_where() {
    assert_eq!(
        refusal("lab.test('x', {node = 3}, function() end)"),
        "test.lua:1: there is no option `node`; did you mean `nodes`?"
    );
    assert!(refusal("\nlocal = 1").starts_with("test.lua:2: "), "{}", refusal("\nlocal = 1"));
    assert!(refusal("local x = 1").contains("declares no lab"));
    assert!(refusal("lab.sleep(1)").starts_with("test.lua:1: this works inside of a lab only"));
    for sizes in ["nodes = 0", "nodes = 7, spares = 10", "spares = 65535"] {
        let (verdict, _) = played(&format!("lab.test('x', {{{sizes}}}, function() end)"));
        let End::Failed { trouble, .. } = verdict.end else { panic!("it was played with {sizes}") };
        assert!(trouble.to_string().contains("a lab has 1 to 9 nodes, and 16 with its spares"), "{trouble}");
    }
    let twice = "lab.test('x', {}, function() end) lab.test('x', {}, function() end)";
    assert!(refusal(twice).contains("two labs with the name"));
}

#[test]
fn who_never_waits_is_stopped_with_the_line() {
    let text = fails("local n = 0\nwhile true do n = n + 1 end");
    assert!(text.starts_with("test.lua:3: this goes on without waiting"), "{text}");
    let text = fails("while true do pcall(function() while true do end end) end");
    assert!(text.contains("this goes on without waiting"), "{text}");
}

#[test]
fn who_waits_for_ever_is_stopped_with_the_line() {
    let (verdict, _) =
        played("lab.test('x', {limit = '2s'}, function(g)\nwhile true do lab.sleep(0) end\nend)");
    let End::Failed { trouble: LabError { place, what: What::Error(text) }, .. } = verdict.end else {
        panic!()
    };
    assert_eq!(place.unwrap().line, 2);
    assert!(text.contains("the lab is not done after 2 s"), "{text}");
}

#[test]
fn a_task_that_fails_fails_the_lab() {
    assert_eq!(
        fails("lab.spawn(function() lab.sleep(1) lab.fail('enough') end)\nlab.sleep(2)"),
        "test.lua:2: enough"
    );
    assert_eq!(fails("lab.spawn(function() error('plain') end)\nlab.sleep(2)"), "test.lua:2: plain");
    let text = fails("lab.sleep(1)\nerror({code = 4})");
    assert_eq!(text, "test.lua:3: an error that is no text, but a table");
}

#[test]
fn what_a_world_lacks_is_skipped_and_counted_with_its_reason() {
    let (verdict, _) = body("for i = 1, 3 do expect(g:node(0):disk({full = true})):is_false() end");
    assert_eq!(verdict.end, End::Passed);
    assert_eq!(
        verdict.skips.into_iter().collect::<Vec<_>>(),
        [("disk fault: a fake has no disks".into(), 3)]
    );
    let (verdict, _) = played("lab.test('x', {needs = {'disk'}}, function() lab.fail('played') end)");
    assert_eq!(verdict.end, End::Skipped("it needs disk: a fake has no disks".into()));
    assert_eq!(body("lab.skip('rain')").0.end, End::Skipped("rain".into()));
}

#[test]
fn every_lab_is_judged_at_its_end_unless_it_was() {
    assert_eq!(fails("g:send('violate')"), "test.lua:1: expected peace; got war");
    assert_eq!(fails("g:send('violate')\ng:check()"), "test.lua:3: expected peace; got war");
}

#[test]
fn a_load_asks_with_its_rate_and_tells_its_figures() {
    let lines = said(
        "local load = g:load({clients = 2, rate = 100, lasts = '1s', mix = {write = 3, read = 1}})
         local s = load:await()
         lab.say(s.asked, s.ok, s.unknown, s.open, s.p50, load.done)
         local quick = g:load({clients = 2})
         lab.sleep('100ms')
         local q = quick:stop()
         lab.say(q.asked >= 100, q.ok == q.asked)
         lab.say(g:burst(50).ok)",
    );
    assert_eq!(lines, ["100 100 0 0 0.001 true", "true true", "50"]);
}

#[test]
fn chance_comes_from_the_seed() {
    let text = "lab.say(math.random(1, 1000000), math.random(1, 1000000))";
    assert_eq!(said(text), said(text));
    assert!(fails("math.randomseed(1)").contains("attempt to call a nil value"));
}

#[test]
fn a_partition_has_sides_and_a_lab_has_a_group() {
    said(
        "g:partition({0, 1}, {g:node(2)}) g:topology('chained') g:cut(0, {1, 'clients'}) g:cut_one_way(0, 1)
          g:mend(0, 1) g:isolate(2) g:network({loss = 0.1, reorder = '5ms', from = 0}) g:heal()",
    );
    assert!(fails("g:partition()").contains("a partition has sides"));
}

#[test]
fn a_failure_reads_like_this() {
    let text = "lab.test('planted', {}, function(g)
  g:node(2):crash()
  g:write('x')
  expect(function() return g:node(2):status().learned end, 'what node 2 has learned'):within('1s'):equals(1)
end)";
    let (verdict, _) = played(text);
    let End::Failed { trouble, views } = verdict.end else { panic!("it passed") };
    let name = Name { script: "test.lua", title: "planted", world: Kind::Sim };
    assert_eq!(report::failure(name, 1, &trouble, &views), include_str!("tests/failure.txt").trim_end());
}
