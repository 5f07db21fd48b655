-- Split brain, attempted: the old leader and a minority on one side, the rest on the other.
--
--   upaxos-node lab scripts/labs/split_brain.lua [--on raw]
--
-- Clients that reach only the minority get no answer, neither to a write nor to a read, since each needs a quorum. The
-- majority continues. After healing there is one history. It contains the write to the minority once or
-- never.

lab.test("split-brain attempt", { nodes = 5, needs = { "links" } }, function(g)
  local leader = g:leader()
  local others = g:others(leader)
  local minority = { leader, others[1] }
  local majority = { others[2], others[3], others[4] }
  expect(g:write("before")):ok()

  g:partition(minority, majority)
  g:cut("clients", majority)
  local lost = g:client():write_async("to the minority", { within = "3s" })
  local stale = g:client():fast_read_async({ within = "3s" })
  expect(lost:await(), "a write to the minority"):unknown()
  expect(stale:await(), "a read from the minority"):unknown()

  g:mend("clients", majority)
  g:cut("clients", minority)
  local next = g:leader({ among = majority, within = "10s" })
  lab.say(leader, "led; now", next, "does")
  expect(g:write("to the majority")):ok()
  expect(g:fast_read().value):equals("to the majority")

  g:heal()
  expect(function()
    return g:node(leader.id):status().stance
  end, "the old leader"):within("10s"):one_of({ "follows", "leads" })
  expect(g:write("after healing")):ok()
end)
