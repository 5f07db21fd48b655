-- The three schedules in which a naive node chooses two values, played with cuts and delays.
--
--   upaxos-node lab scripts/labs/schedules.lua [--on raw]
--
-- Each schedule tempts a node into one short cut, and the judges look for its result. (tests/schedules.rs plays the
-- exact same messages, with peers that the test controls.)

-- One ballot, two values. The leader's write of `a` reaches one node only, then the leader is gone. The next leader
-- hears of no value from a quorum, and must fix its own. Then a late promise arrives that carries `a`. A leader that
-- now writes `a` as well has put two values into one ballot.
lab.test("one ballot, two values", { nodes = 5, needs = { "links" } }, function(g)
  local leader = g:leader()
  local others = g:others(leader)
  local late, rest = others[4], { others[1], others[2], others[3] }
  expect(g:write("before")):ok()

  g:cut_one_way(leader, rest)
  g:cut("clients", others)
  g:client():write_async("a", { within = "1s" })
  -- Long enough to arrive there and to be on disk. Too short for the other nodes to miss the leader.
  lab.sleep("100ms")
  g:isolate(leader)
  -- The late node's messages arrive long after those of the others.
  g:network({ from = late, to = rest, delay = "150ms" })
  g:mend("clients", others)
  g:leader({ among = others, within = "15s" })
  expect(g:write("b", { within = "30s" })):ok()
end)

-- A write does not raise the promise. The old leader's write of `w` to one node is late. Meanwhile the other nodes,
-- including that one, choose `v` in a higher ballot. Then `w` arrives: it must be refused.
lab.test("a late write of a lower ballot", { nodes = 3, needs = { "links" } }, function(g)
  local leader = g:leader()
  local others = g:others(leader)
  expect(g:write("before")):ok()

  g:cut("clients", others)
  g:cut_one_way(leader, others[2])
  g:network({ from = leader, to = others[1], delay = "3s" })
  g:client():write_async("w", { within = "1s" })
  lab.sleep("100ms")
  -- Datagrams in flight arrive all the same.
  g:cut("clients", leader)
  g:mend("clients", others)
  local next = g:leader({ among = others, within = "10s" })
  expect(g:write("v", { within = "30s" })):ok()
  lab.say("v is chosen under", next, "; w arrives later")
  lab.sleep("3s")
  expect(g:write("after it")):ok()
end)

-- Counting across ballots. Only its own leader accepts `u`, and in the next ballot only its own `w`. Then the first
-- leader is heard again, without the second, and writes `u` in a third ballot. Two nodes have accepted `u`, but in
-- two ballots. A learner that adds these up learns a value that was never chosen.
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
