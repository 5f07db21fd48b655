-- First consensus: three nodes agree on a value, and every one of them has it.
--
--   upaxos-node lab scripts/labs/first_consensus.lua [--on raw]
--
-- A leader is whoever first gets promises from a quorum. It writes the value; what a quorum has accepted (on
-- disk, in one ballot) is chosen, for ever. Learning that is each node's own affair: see `learned`.

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

-- A quorum is a strict majority: with one of three nodes missing the group goes on, with two it stands still,
-- and goes on by itself when one is back.
lab.test("no quorum, no value", { nodes = 3, needs = { "processes" } }, function(g)
  expect(g:write("three of three")):ok()
  g:node(0):crash()
  expect(g:write("two of three")):ok()
  g:node(1):crash()
  -- Unknown, not failed: the one that is left may have it on its disk, and it may be chosen later.
  expect(g:write("one of three", { within = "2s" })):unknown()
  g:node(1):start()
  expect(g:write("two of three again")):ok()
end)
