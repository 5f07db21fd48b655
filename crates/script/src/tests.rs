//! The abilities and the limits of scripts: no script escapes its limits, its environment or its state.

use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use upaxos_core::script_state::{Number, Scalar};
use upaxos_core::types::Instance;

use super::*;

/// Scripts in a temporary folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn load(text: &str) -> Result<Scripts, LoadError> {
    Scripts::load(&[Folder::new().put("test.lua", text)], Limits::default())
}

fn loaded(text: &str) -> Scripts {
    load(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Applies values in turn to one script with this body of `apply`, as the node does.
struct Applies {
    scripts: Scripts,
    state: ScriptState,
    instance: u64,
}

impl Applies {
    fn with(body: &str) -> Applies {
        let text = format!("return {{\n apply = function(st, value, entry)\n{body}\nend }}");
        Applies { scripts: loaded(&text), state: ScriptState::default(), instance: 0 }
    }

    fn apply(&mut self, value: &str) -> Result<(), Fault> {
        self.instance += 1;
        self.scripts.begin_turn();
        let value = Value::from(value);
        let applied = Applied { value: &value, instance: Instance(self.instance), tag: None };
        let done = self.scripts.apply(0, &mut self.state, &applied);
        if done.is_ok() {
            self.state.commit()
        } else {
            self.state.undo()
        }
        done
    }

    fn raised(&mut self) -> String {
        match self.apply("x") {
            Err(Fault::Raised(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.state.get(key.as_bytes())? {
            Scalar::Text(text) => Some(text.to_string()),
            Scalar::Number(number) => Some(number.get().to_string()),
            Scalar::Bool(is_true) => Some(is_true.to_string()),
        }
    }
}

/// The value of an expression in `apply`.
fn value_of(expression: &str) -> String {
    let mut applies = Applies::with(&format!("st:set('result', {expression})"));
    applies.apply("x").unwrap_or_else(|fault| panic!("{expression}: {fault:?}"));
    applies.text("result").unwrap_or_else(|| "nil".into())
}

#[test]
fn a_state_keeps_booleans_numbers_and_strings_in_order() {
    let mut applies = Applies::with(
        "st:set('b', true) st:set('a', 1.5) st:set('c', value) st:set('aa', 'x') st:set('b', nil)
         local seen = ''
         for key, found in st:range() do seen = seen .. key .. '=' .. tostring(found) .. ' ' end
         for key in st:range('aa', 'c') do seen = seen .. key .. ' ' end
         for key in st:prefix('a') do seen = seen .. key .. ' ' end
         st:set('seen', seen .. st:len() .. tostring(st:has('b')) .. tostring(st:del('c')))
         st:add('count', 2)
         st:set('sum', st:add('count', 3))",
    );
    applies.apply("dark red").unwrap();
    assert_eq!(applies.text("seen").unwrap(), "a=1.5 aa=x c=dark red aa c a aa 3falsetrue");
    assert_eq!(applies.text("sum").unwrap(), "5");
    assert!(applies.text("c").is_none());
}

#[test]
fn a_loop_over_the_state_sees_what_is_changed_before_it() {
    let mut applies = Applies::with(
        "for i = 1, 9 do st:set('k' .. i, i) end
         for key, found in st:prefix('k') do if found % 2 == 0 then st:del(key) else st:del('k' .. found + 1) end end",
    );
    applies.apply("x").unwrap();
    let keys: Vec<String> = applies.state.from(Bound::Unbounded).map(|(key, _)| key.to_string()).collect();
    assert_eq!(keys, ["k1", "k3", "k5", "k7", "k9"]);
}

#[test]
fn a_failed_apply_leaves_nothing_and_names_script_line_and_rule() {
    for (body, expected) in [
        ("st:set('a', 1)\n error('no')", "test.lua:4: no"),
        ("st:set('a', 1)\n local x = nil + 1", "test.lua:4: attempt to perform arithmetic"),
        (
            "st:set('a', 1)\n st:set('b', {})",
            "test.lua:4: rule: `st` keeps booleans, numbers and strings, no table",
        ),
        ("st:set('a', 1)\n st:set('b', 0/0)", "test.lua:4: rule: what is not a number"),
        ("st:set('a', 1)\n st:set(('k'):rep(2000), 1)", "test.lua:4: rule: a key of 2000 bytes"),
        ("st:set('a', 1)\n st:add('a', 1) st:set('a', 'x') st:add('a', 1)", "no number"),
        ("st:set('a', 1)\n log.info('x')", "test.lua:4: rule: only on_learn and on_role may log"),
        ("st:set('a', 1)\n count = 1", "attempt to modify a readonly table"),
        ("st:set('a', 1)\n string.x = 1", "attempt to modify a readonly table"),
        ("st:set('a', 1)\n entry.instance = 7", "test.lua:4: rule: nothing can be changed here"),
        ("st:set('a', 1)\n return entry.instanc", "test.lua:4: there is no `instanc` here"),
        ("st:set('a', 1)\n setmetatable({}, { __mode = 'k' })", "test.lua:4: rule: no weak tables"),
        ("st:set('a', 1)\n coroutine.yield()", "attempt to yield"),
    ] {
        let mut applies = Applies::with(body);
        let text = applies.raised();
        assert!(text.contains(expected), "{body}: {text}");
        assert!(applies.state.is_empty(), "{body}");
    }
}

#[test]
fn nothing_of_the_machine_is_in_reach() {
    for name in [
        "os",
        "io",
        "debug",
        "require",
        "load",
        "loadstring",
        "dofile",
        "getfenv",
        "setfenv",
        "newproxy",
        "print",
        "collectgarbage",
        "gcinfo",
        "_G",
        "_VERSION",
        "vector",
        "package",
        "integer",
        "class",
    ] {
        assert_eq!(value_of(&format!("type({name})")), "nil", "{name}");
    }
    for name in
        ["math.random", "math.randomseed", "math.noise", "table.clear", "string.dump", "coroutine.foo"]
    {
        assert_eq!(value_of(&format!("type({name})")), "nil", "{name}");
    }
    for name in
        ["math.floor", "string.pack", "utf8.char", "bit32.band", "buffer.create", "table.sort", "tonumber"]
    {
        assert_eq!(value_of(&format!("type({name})")), "function", "{name}");
    }
}

#[test]
fn no_address_is_shown() {
    for (expression, expected) in [
        ("tostring({})", "table"),
        ("tostring(print or function() end)", "function"),
        ("tostring(coroutine.create(function() end))", "thread"),
        ("tostring(st)", "userdata"),
        ("tostring(buffer.create(1))", "buffer"),
        ("string.format('%s %d %s', {}, 7, 'x')", "table 7 x"),
        ("('%*'):format({})", "table"),
        ("`{ {} }`", "table"),
        ("tostring(setmetatable({}, { __tostring = function() return 'own' end }))", "own"),
        ("tostring(12)", "12"),
        ("tostring(0.1)", "0.1"),
        ("tostring(1e100)", "1e+100"),
        ("tostring(nil)", "nil"),
    ] {
        assert_eq!(value_of(expression), expected, "{expression}");
    }
    let mut applies = Applies::with("local ok, problem = pcall(error, {}) error(problem)");
    let text = applies.raised();
    assert!(!text.contains("0x"), "{text}");
}

#[test]
fn two_worlds_with_different_pasts_go_through_a_table_alike() {
    let body = "local t = {}
        for word in value:gmatch('%a+') do t[word] = #word end
        local seen = {}
        for word in pairs(t) do seen[#seen + 1] = word end
        st:set('order', table.concat(seen, ' '))";
    let (mut fresh, mut used) = (Applies::with(body), Applies::with(body));
    for round in 0..300 {
        used.apply(&format!("some other words to intern {}", "abc".repeat(round))).unwrap();
    }
    let value = "the quick brown fox jumps over the lazy dog and runs away from all the others";
    fresh.apply(value).unwrap();
    used.apply(value).unwrap();
    assert_eq!(fresh.text("order"), used.text("order"));
}

/// Payloads that never end by themselves, or take very long.
const ENDLESS: [(&str, &str); 13] = [
    ("loop", "while true do end"),
    ("pcall loop", "while true do pcall(function() while true do end end) end"),
    (
        "xpcall loop",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    ),
    (
        "coroutine loop",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ),
    ("wrapped loop", "local f = coroutine.wrap(function() while true do end end) while true do pcall(f) end"),
    ("straight on after pcall", "pcall(function() while true do end end) return 1"),
    ("recursion of pcall", "local function f() pcall(f) pcall(f) end f()"),
    ("pattern", "(('a'):rep(60)):match(('a-'):rep(30) .. 'b')"),
    ("balance", "(('('):rep(50000)):find('%b()')"),
    ("long class", "(('a'):rep(50000)):find('[' .. ('bc'):rep(20000) .. ']')"),
    ("replacement", "(('a'):rep(50000)):gsub('.-b', '')"),
    (
        "sort",
        "local t = {} for i = 1, 20000 do t[i] = -i end for i = 1, 20000 do table.sort(t, function() return false end) end",
    ),
    ("insert", "local t = table.create(60000, 0) while true do table.insert(t, 1, 0) end"),
];

#[test]
fn an_endless_apply_is_undone_after_the_same_number_of_steps_everywhere() {
    for (name, body) in ENDLESS {
        let mut applies = Applies::with(&format!("st:set('a', 1);\n{body}"));
        let began = Instant::now();
        let text = applies.raised();
        assert!(text.contains("rule: a call takes at most 100000 steps"), "{name}: {text}");
        assert!(text.starts_with("test.lua:"), "{name}: {text}");
        assert!(began.elapsed() < Duration::from_secs(2), "{name} took {:?}", began.elapsed());
        assert!(applies.state.is_empty(), "{name}");
        assert!(!applies.scripts.has_time(), "{name}: the rest of the turn is for others");
    }
}

#[test]
fn an_apply_that_recurses_without_end_fails_alike_whatever_was_before() {
    for body in [
        "local function f() return 1 + f() end f()",
        "local t = setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }) return t.a",
        "(('('):rep(300) .. 'a' .. (')'):rep(300)):match((('('):rep(300)) .. 'a' .. ((')'):rep(300)))",
    ] {
        let mut applies = Applies::with(body);
        let first = applies.raised();
        assert_eq!(applies.raised(), first, "{body}");
        assert_eq!(Applies::with(body).raised(), first, "{body}");
    }
}

#[test]
fn an_apply_that_asks_for_too_much_memory_stops_the_node_and_nothing_catches_that() {
    for body in [
        "local s = 'x' for i = 1, 60 do s = s .. s end",
        "pcall(function() local s = 'x' for i = 1, 60 do s = s .. s end end)",
        "coroutine.resume(coroutine.create(function() local s = 'x' for i = 1, 60 do s = s .. s end end))",
        "local s = ('x'):rep(16000) local t = {} for i = 1, 5000 do t[i] = s .. i end",
        "local function f(...) return select('#', f(1, ...)) end f()",
        "pcall(buffer.create, 1000000000)",
        "local s = ('x'):rep(1000000) local t = {} for i = 1, 60 do t[i] = s .. i end",
    ] {
        let mut applies = Applies::with(&format!("st:set('a', 1) {body}"));
        let fault = applies.apply("x");
        let Err(Fault::Fatal(text)) = fault else { panic!("{body}: {fault:?}") };
        assert!(text.contains("rule: a call asks for at most") && text.contains("--script-memory"), "{text}");
        assert!(applies.state.is_empty(), "{body}");
    }
}

#[test]
fn who_takes_too_long_is_told_how_long_it_may_take() {
    let folder = Folder::new();
    let path = folder.put("test.lua", "return { request = function() for _ = 1, 10000 do end end }");
    let limits = Limits { time: Duration::from_nanos(1), ..Limits::default() };
    let reason = Scripts::load(&[path], limits).unwrap().request(&"x".into(), None).unwrap_err();
    assert!(reason.contains("rule: a call takes at most 1ns (--script-time)"), "{reason}");
}

#[test]
fn what_one_call_leaves_behind_takes_nothing_from_the_next() {
    let mut applies = Applies::with("local s = ('x'):rep(9000000) st:set('a', #s)");
    for round in 0..40 {
        assert_eq!(applies.apply("x"), Ok(()), "{round}");
    }
}

#[test]
fn an_endless_request_is_refused_in_time_and_says_why() {
    for (name, body) in ENDLESS {
        let scripts = loaded(&format!("return {{\n request = function(value) {body} end }}"));
        let began = Instant::now();
        let reason = scripts.request(&"x".into(), None).unwrap_err();
        assert!(reason.contains("test.lua:2: rule: a call takes at most"), "{name}: {reason}");
        assert!(began.elapsed() < Duration::from_millis(500), "{name} took {:?}", began.elapsed());
    }
}

#[test]
fn requests_go_through_the_scripts_in_order() {
    let folder = Folder::new();
    let first = folder.put("first.lua", "return { request = function(value) return value .. '1' end }");
    let second = "return { request = function(value, req) if value == 'no1' then return nil, 'not no' end
        if value == 'odd1' then return 7 end if value == 'nothing1' then return end
        return value .. (req.client or '-') .. (req.seq or '-') end }";
    let second = folder.put("second.lua", second);
    let scripts = Scripts::load(&[first, second], Limits::default()).unwrap();
    let tag = Some(Tag { client: u64::MAX >> 1, seq: 3 });
    let request = |value: &str, tag| scripts.request(&value.into(), tag);
    assert_eq!(request("a", None), Ok(Some("a1--".into())));
    assert_eq!(request("a", tag), Ok(Some("a192233720368547758073".into())));
    assert_eq!(request("no", None), Err("script second: not no".into()));
    assert!(request("odd", None).unwrap_err().contains("`request` returned a number"));
    assert!(request("nothing", None).unwrap_err().contains("without a reason"));
}

#[test]
fn a_read_sees_the_state_and_cannot_change_it() {
    let scripts = loaded(
        "return { apply = function(st, value) st:set('last', value) end,
          read = function(st, at)
            if at.question == 'set' then st:set('a', 1) end
            if at.question == 'what' then return nil, 'do not know' end
            if at.question == 'kept' then kept:get('a') end
            return (at.question or '-') .. ' ' .. at.instance .. ' ' .. tostring(at.last) .. ' ' .. tostring(st:get('last'))
          end }",
    );
    assert_eq!(scripts.reader(), Some(Some(0)));
    let mut state = ScriptState::default();
    state.set(b"last", Some(Scalar::Number(Number::new(7.0).unwrap()))).unwrap();
    let last = (Instance(2), Value::from("two"));
    let read = |question: Option<&str>| {
        let question = question.map(Value::from);
        scripts.read(&state, &At { instance: Instance(3), last: Some(&last), question: question.as_ref() })
    };
    assert_eq!(read(None), Ok("- 3 two 7".into()));
    assert_eq!(read(Some("last")), Ok("last 3 two 7".into()));
    assert!(read(Some("set")).unwrap_err().contains("rule: `read` cannot change `st`"));
    assert_eq!(read(Some("what")), Err("script test: do not know".into()));
}

#[test]
fn a_state_that_a_script_keeps_is_no_use_to_it_later() {
    let text = "local kept
        return { apply = function(st, value) kept = st end, request = function(value) return kept:get('a') end }";
    let scripts = loaded(text);
    let (mut state, value) = (ScriptState::default(), Value::from("x"));
    let applied = Applied { value: &value, instance: Instance(1), tag: None };
    scripts.apply(0, &mut state, &applied).unwrap();
    let reason = scripts.request(&value, None).unwrap_err();
    assert!(reason.contains("rule: `st` is only there while its hook runs"), "{reason}");
}

#[test]
fn a_file_that_is_no_script_is_refused_with_its_line() {
    for (text, expected) in [
        (
            "return { aply = function() end }",
            "test.lua:1: unknown key `aply` in the table of hooks; did you mean `apply`?",
        ),
        ("return {\n apply = function() end,\n reed = 7 }", "test.lua:3: unknown key `reed`"),
        ("return {\n on_lern = function() end }", "did you mean `on_learn`?"),
        ("return { function() end }", "unknown key `1`"),
        ("return {\n read = 'x' }", "test.lua:2: `read` is a string; it must be a function"),
        ("return {}", "it has no hook"),
        ("local x = 1", "a script returns one table of hooks"),
        ("return 7", "a script returns one table of hooks"),
        ("return {}, {}", "a script returns one table of hooks"),
        ("return { apply = function( end }", "test.lua:1:"),
        ("local t = {}\n t.x.y = 1", "test.lua:2: attempt to index nil"),
        ("count = 1", "attempt to modify a readonly table"),
        ("while true do end", "rule: a call takes at most"),
        ("require('x')", "attempt to call a nil value"),
    ] {
        let error = load(text).map(|scripts| scripts.describe()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn scripts_that_do_not_go_together_are_refused() {
    let folder = Folder::new();
    let reads = "return { read = function() return '' end }";
    let (one, two) = (folder.put("one.lua", reads), folder.put("two.lua", reads));
    let load = |paths: &[&PathBuf]| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
        Scripts::load(&paths, Limits::default()).map(|scripts| scripts.describe()).unwrap_err().to_string()
    };
    assert!(load(&[&one, &two]).contains("script one has a `read`, too"));
    assert!(load(&[&one, &one]).contains("another script named one"));
    assert!(load(&[&folder.put("no blanks.lua", reads)]).contains("letters, digits"));
    assert!(load(&[&folder.put("one.txt", reads)]).contains("like `counter.lua`"));
    assert!(load(&[&folder.0.path().join("none.lua")]).contains("cannot read script"));
}

#[test]
fn what_decides_the_outcome_makes_another_script_and_nothing_else_does() {
    let folder = Folder::new();
    let path = folder.put("a.lua", "return { apply = function() end }");
    let source = |limits| Scripts::load(std::slice::from_ref(&path), limits).unwrap().scripts()[0].source;
    let usual = source(Limits::default());
    assert_eq!(
        usual,
        source(Limits { memory: 1 << 30, time: Duration::from_millis(50), ..Limits::default() })
    );
    assert_ne!(usual, source(Limits { steps: 7_000, ..Limits::default() }));
    folder.put("a.lua", "return { apply = function() end } ");
    assert_ne!(usual, source(Limits::default()));
}

#[test]
fn scripts_may_be_loaded_again_unless_what_one_computes_could_change() {
    let folder = Folder::new();
    let applies = folder.put("a.lua", "return { apply = function() end }");
    let shows = folder.put("b.lua", "return { read = function() return '1' end }");
    let load = || Scripts::load(&[applies.clone(), shows.clone()], Limits::default()).unwrap();
    let running = load();
    folder.put("b.lua", "return { read = function() return '2' end }");
    assert_eq!(running.objection_to(&load()), None);
    folder.put("b.lua", "return { read = function() return '2' end, apply = function() end }");
    assert!(running.objection_to(&load()).unwrap().starts_with("b has an `apply`"));
    folder.put("b.lua", "return { read = function() return '2' end }");
    folder.put("a.lua", "return { apply = function() return 1 end }");
    assert!(running.objection_to(&load()).unwrap().starts_with("a has an `apply`"));
}

#[test]
fn notices_are_told_in_order_and_their_errors_stop_nothing() {
    let scripts = loaded(
        "local count = 0
         return { on_learn = function(value, entry) count = count + 1 if value == 'bad' then error('no') end
             log.info(count .. value .. entry.instance) end,
           on_role = function(role, leader, ballot) log.warn(role) while true do end end,
           request = function() return tostring(count) end }",
    );
    assert!(scripts.listens());
    scripts.begin_turn();
    for (instance, value) in [(1, "a"), (2, "bad"), (3, "c")] {
        scripts.note(Notice::Learned(Instance(instance), value.into()));
    }
    assert!(!scripts.tell());
    assert_eq!(scripts.request(&"x".into(), None), Ok(Some("3".into())));
    scripts.note(Notice::Role("leads", None, "7".into()));
    scripts.note(Notice::Role("waits", None, "7".into()));
    assert!(scripts.tell(), "the first has used up the turn");
    scripts.begin_turn();
    assert!(!scripts.tell());
}

/// A shipped script, with a state that it has computed from these values.
fn shipped(name: &str, values: &[&str]) -> (Scripts, ScriptState) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/hooks").join(name);
    let scripts = Scripts::load(&[path], Limits::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut state = ScriptState::default();
    for (value, instance) in values.iter().zip(1..) {
        let written = match scripts.request(&(*value).into(), None) {
            Ok(written) => written.unwrap_or_else(|| (*value).into()),
            Err(reason) => panic!("{value}: {reason}"),
        };
        if !scripts.scripts().is_empty() {
            let applied = Applied { value: &written, instance: Instance(instance), tag: None };
            scripts.apply(0, &mut state, &applied).unwrap_or_else(|fault| panic!("{value}: {fault:?}"));
            state.commit();
        }
    }
    (scripts, state)
}

fn asked(scripts: &Scripts, state: &ScriptState, question: Option<&str>) -> Result<String, String> {
    let (question, last) = (question.map(Value::from), (Instance(3), Value::from("three")));
    let at = At { instance: Instance(9), last: Some(&last), question: question.as_ref() };
    scripts.read(state, &at).map(|answer| answer.to_string())
}

fn refused(scripts: &Scripts, value: &str) -> String {
    scripts.request(&value.into(), None).expect_err(value)
}

#[test]
fn the_shipped_table_sets_adds_compares_and_deletes() {
    let values =
        ["set a dark red", "set b 1", "add b 2", "add c -1.5", "cas b 3 9", "cas b 3 10", "set d x", "del d"];
    let (scripts, state) = shipped("kv.lua", &values);
    let ask = |question: &str| asked(&scripts, &state, Some(question));
    assert_eq!(ask("get a"), Ok("dark red".into()));
    assert_eq!((ask("get b"), ask("get c")), (Ok("9".into()), Ok("-1.5".into())));
    assert_eq!(ask("count"), Ok("3".into()));
    assert_eq!(ask("list "), Ok(r#""a=dark red\nb=9\nc=-1.5""#.into()));
    assert_eq!(ask("get d"), Err("script kv: no key d".into()));
    assert!(ask("drop all").unwrap_err().contains("ask get KEY"));
    assert_eq!(asked(&scripts, &state, None), Ok("three".into()));
    for value in
        ["", "set", "set a", "add a b", "cas a 1", "cas a 1 2 3", "del", "del a b", "get a", "Set a b"]
    {
        assert!(refused(&scripts, value).contains("say set KEY VALUE"), "{value}");
    }
}

#[test]
fn the_shipped_allocator_gives_every_number_once() {
    let (scripts, state) = shipped("ids.lua", &["take o w1", "take o w2 100", "take o w1 3", "take p w1"]);
    let ask = |question: &str| asked(&scripts, &state, Some(question));
    assert_eq!((ask("of o w1"), ask("of o w2")), (Ok("102 104".into()), Ok("2 101".into())));
    assert_eq!(
        (ask("next o"), ask("next p"), ask("next q")),
        (Ok("105".into()), Ok("2".into()), Ok("1".into()))
    );
    assert!(ask("of q w1").unwrap_err().contains("w1 has taken nothing of q"));
    assert!(refused(&scripts, "take o").contains("say take SERIES OWNER"));
    assert!(refused(&scripts, "take o w 0").contains("take from 1 to"));
}

#[test]
fn the_shipped_validator_mends_what_it_can_and_says_what_it_cannot() {
    let (scripts, _) = shipped("validate.lua", &["temperature kitchen 21.5"]);
    let request = |value: &str| scripts.request(&value.into(), None);
    assert_eq!(request("temperature kitchen 21.5"), Ok(None), "as it is");
    assert_eq!(request("  temperature  kitchen 21,5 "), Ok(Some("temperature kitchen 21.5".into())));
    assert!(refused(&scripts, "temperature kitchen hot").contains("hot is no number"));
    assert!(refused(&scripts, "temperature kitchen 99").contains("from -90 to 60"));
    assert!(refused(&scripts, "noise kitchen 9").contains("unknown measure noise"));
    assert!(refused(&scripts, "temperature").contains("expected: WHAT WHERE NUMBER"));
}

#[test]
fn the_shipped_formatter_words_what_is_read() {
    let (scripts, state) = shipped("format.lua", &["one"]);
    assert_eq!(asked(&scripts, &state, None), Ok("three (5 bytes, written at 3)".into()));
    assert_eq!(asked(&scripts, &state, Some("upper")), Ok("THREE".into()));
    assert!(asked(&scripts, &state, Some("lower")).unwrap_err().contains("the only question is: upper"));
    let nothing = At { instance: Instance(0), last: None, question: None };
    assert_eq!(scripts.read(&state, &nothing), Ok("nothing was written yet".into()));
}
