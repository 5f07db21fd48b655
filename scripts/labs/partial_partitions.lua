-- Partial partitions: links fail between some nodes and not between others, and do not recover.
--
--   upaxos-node lab scripts/labs/partial_partitions.lua [--on raw]
--
-- If some node keeps two-way links with a quorum, a leader must emerge within four election timeouts (a timeout is
-- four beats: 1.6 s for all four) and get a request chosen. After that no node may depose it: no duel.

local TIMEOUTS = 1.6

-- A busy machine is not the group's fault: real time allows more.
local function patience()
  return lab.world == "sim" and TIMEOUTS or 5 * TIMEOUTS
end

local function ballot(g)
  return g:leader():status().ballot
end

local function holds_out(g)
  -- Clients reach all nodes, so the leader receives the request.
  expect(g:write("in the partition", { within = patience() })):ok()
  -- The old leader may have got it chosen before the other nodes noticed its absence.
  lab.sleep(TIMEOUTS)
  local before = ballot(g)
  lab.sleep(2 * TIMEOUTS)
  expect(ballot(g), "the ballot, later"):equals(before)
  g:heal()
  expect(g:write("healed")):ok()
end

-- All nodes except the center lose their quorum, and so does the leader, unless it is the center.
lab.test("quorum loss", { nodes = 5, needs = { "links" } }, function(g)
  local leader = g:leader()
  g:topology("quorum_loss", { center = g:others(leader)[1] })
  holds_out(g)
end)

-- The same, but the center cannot hear the old leader, and the nodes that it needs have the older log.
lab.test("constrained election", { nodes = 5, needs = { "links" } }, function(g)
  local leader = g:leader()
  expect(g:write("before")):ok()
  g:topology("constrained", { center = g:others(leader)[1], old = leader })
  holds_out(g)
end)

-- A line: the ends do not hear each other. A protocol that takes "I do not hear the leader" for "the leader is gone"
-- raises ballots here for ever.
lab.test("chained", { nodes = 3, needs = { "links" } }, function(g)
  local leader = g:leader()
  g:topology("chained", { center = leader })
  holds_out(g)
end)

-- No node hears the leader, but the leader hears all nodes.
lab.test("one-way cut", { nodes = 3, needs = { "links" } }, function(g)
  local leader = g:leader()
  g:cut_one_way(leader, g:others(leader))
  g:leader({ not_among = { leader }, within = patience() })
  holds_out(g)
end)
