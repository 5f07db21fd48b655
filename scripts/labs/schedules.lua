-- The three schedules that make a naive node choose two values, played with cuts and delays.
--
--   upaxos-node lab scripts/labs/schedules.lua [--on raw]
--
-- Each tempts a real node into one short cut; the judges look for what would come of it. (tests/schedules.rs
-- plays the very letters of them, with peers that are the test.)

-- One ballot, two values. The leader's write of `a` reaches one node only, then the leader is gone. The next
-- leader hears of no value from a quorum, and must fix its own; then, late, a promise comes that carries `a`.
-- Whoever writes again, now with `a`, has put two values into one ballot.
lab.test("one ballot, two values", { nodes = 5, needs = { "links" } }, function(g)
  local leader = g:leader()
  local others = g:others(leader)
  local late, rest = others[4], { others[1], others[2], others[3] }
  expect(g:write("before")):ok()

  g:cut_one_way(leader, rest)
  g:cut("clients", others)
  g:client():write_async("a", { within = "1s" })
  -- Long enough for it to arrive there, and to be on disk; too short for anybody to miss the leader.
  lab.sleep("100ms")
  g:isolate(leader)
  -- What the late one says comes long after what the others say.
  g:network({ from = late, to = rest, delay = "150ms" })
  g:mend("clients", others)
  g:leader({ among = others, within = "15s" })
  expect(g:write("b", { within = "30s" })):ok()
end)

-- A write does not raise the promise. The old leader's write of `w` to one node is late. Meanwhile the others
-- choose `v` in a higher ballot, that node among them. Then `w` arrives: it must be refused.
lab.test("a late write of a lower ballot", { nodes = 3, needs = { "links" } }, function(g)
  local leader = g:leader()
  local others = g:others(leader)
  expect(g:write("before")):ok()

  g:cut("clients", others)
  g:cut_one_way(leader, others[2])
  g:network({ from = leader, to = others[1], delay = "3s" })
  g:client():write_async("w", { within = "1s" })
  lab.sleep("100ms")
  -- What is on its way arrives all the same.
  g:cut("clients", leader)
  g:mend("clients", others)
  local next = g:leader({ among = others, within = "10s" })
  expect(g:write("v", { within = "30s" })):ok()
  lab.say("v is chosen under", next, "; w arrives later")
  lab.sleep("3s")
  expect(g:write("after it")):ok()
end)

-- Counting across ballots. `u` is accepted by its leader only; `w`, in the next ballot, by its leader only;
-- then the first one is heard again, without the second, and writes `u` in a third ballot. Two nodes accepted
-- `u`, but in two ballots. A learner that adds them up has learned what was never chosen.
lab.test("accepts in two ballots are no quorum", { nodes = 3, needs = { "links" } }, function(g)
  local first = g:leader()
  local others = g:others(first)
  expect(g:write("before")):ok()

  g:cut_one_way(first, others)
  g:cut("clients", others)
  g:client():write_async("u", { within = "1s" })
  lab.sleep("100ms")
  g:isolate(first)
  g:mend("clients", others)

  local second = g:leader({ among = others, within = "10s" })
  local third = g:others(first, second)[1]
  g:cut_one_way(second, third)
  g:cut("clients", third)
  g:client():write_async("w", { within = "1s" })
  lab.sleep("100ms")
  g:isolate(second)

  g:mend(first, { third, "clients" })
  g:mend("clients", third)
  g:leader({ among = { first, third }, within = "15s" })
  lab.sleep("200ms")
  g:isolate(third)
  g:mend(first, { second, "clients" })
  g:mend("clients", second)
  g:leader({ among = { first, second }, within = "15s" })
  expect(g:write("last", { within = "30s" })):ok()
end)
