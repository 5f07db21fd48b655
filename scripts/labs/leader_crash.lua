-- Leader crash: the leader crashes under load, the group continues, and the leader returns.
--
--   upaxos-node lab scripts/labs/leader_crash.lua [--on raw]
--
-- Nodes beat every 100 ms. A leader that misses four beats counts as gone, and the first in rank of the nodes with a
-- quorum proposes a higher ballot. No acknowledged write is lost: the judges at the end of every lab verify that.

lab.test("leader crash", { nodes = 3, needs = { "processes" } }, function(g)
  local load = g:load({ clients = 4, rate = 100 })
  for _ = 1, 2 do
    local leader = g:leader()
    lab.sleep("500ms")
    leader:crash()
    local next = g:leader({ not_among = { leader }, within = "10s" })
    expect(g:write("under " .. tostring(next))):ok()
    leader:start()
    expect(function()
      return leader:status().stance
    end, "the old leader"):within("10s"):one_of({ "follows", "leads" })
  end
  local summary = load:stop()
  lab.say(summary.ok, "of", summary.asked, "answered; the longest gap", summary.longest_gap, "s")
  expect(summary.ok, "answers"):equals(summary.asked)
  expect(summary.longest_gap, "the longest gap"):below(10)
end)

-- A paused leader does not know that it was replaced. After the pause it must neither lead, nor answer a read with an
-- outdated value.
lab.test("leader pause", { nodes = 3, needs = { "processes" } }, function(g)
  local leader = g:leader()
  expect(g:write("before")):ok()
  leader:pause()
  g:leader({ not_among = { leader }, within = "10s" })
  expect(g:write("meanwhile")):ok()
  leader:resume()
  expect(g:fast_read().value):equals("meanwhile")
  expect(function()
    return leader:leads() and g:leader() ~= leader
  end, "a second leader"):within("10s"):is_false()
end)
