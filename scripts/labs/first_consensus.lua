-- First consensus: three nodes agree on a value, and every node has it.
--
--   upaxos-node lab scripts/labs/first_consensus.lua [--on raw]
--
-- The first node with promises from a quorum becomes the leader. It writes the value. A value that a quorum has
-- accepted (on disk, in one ballot) is chosen, for ever. Each node learns that by itself: see `learned`.

lab.test("first consensus", { nodes = 3 }, function(g)
  local leader = g:leader()
  local outcome = g:write("one")
  expect(outcome):ok()
  lab.say(leader, "leads;", outcome.value, "is chosen at instance", outcome.instance)

  g:wait_learned(outcome.instance)
  for _, node in ipairs(g:nodes()) do
    expect(node:status().learned, tostring(node)):at_least(outcome.instance)
  end
end)

-- A quorum is a strict majority. With one of three nodes missing the group continues. With two missing it stops, and
-- continues by itself when one returns.
lab.test("no quorum, no value", { nodes = 3, needs = { "processes" } }, function(g)
  expect(g:write("three of three")):ok()
  g:node(0):crash()
  expect(g:write("two of three")):ok()
  g:node(1):crash()
  -- Unknown, not failed: the remaining node may have it on its disk, and it may be chosen later.
  expect(g:write("one of three", { within = "2s" })):unknown()
  g:node(1):start()
  expect(g:write("two of three again")):ok()
end)
