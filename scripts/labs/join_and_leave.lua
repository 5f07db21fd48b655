-- Join and leave under load: a group of three becomes another group of three, and the clients do not notice.
--
--   upaxos-node lab scripts/labs/join_and_leave.lua [--on raw]
--
-- A change of the group is a value of the log. A joiner first fetches the whole history. The leader admits it when it
-- has nearly caught up. A leaving node answers until a quorum of the new group has the change; then its process ends
-- by itself, with status 0.

lab.test("join and leave under load", { nodes = 3, spares = 2 }, function(g)
  expect(g:burst(50).ok):equals(50)
  local load = g:load({ clients = 3, rate = 50 })

  g:node(3):join()
  g:node(4):join()
  expect(g:members().members):equals({ 0, 1, 2, 3, 4 })

  -- The leader may leave, too.
  local leader = g:leader()
  expect(g:leave(leader)):ok()
  expect(leader:wait_ended().exit, "the exit status of the former member"):equals(0)
  local other = g:node(leader.id == 0 and 1 or 0)
  expect(g:leave(other)):ok()
  expect(other:wait_ended().exit, "the exit status of the former member"):equals(0)

  expect(function()
    return #g:members().members
  end):within("5s"):equals(3)
  local summary = load:stop()
  expect(summary.ok, "answers"):equals(summary.asked)
end)

-- A dead member is replaced in one change: no group ever contains both the dead and the new member.
lab.test("replace the dead", { nodes = 3, spares = 1, needs = { "processes" } }, function(g)
  expect(g:write("before")):ok()
  g:node(2):crash()
  g:node(3):join({ replaces = 2 })
  expect(g:members().members):equals({ 0, 1, 3 })
  g:node(0):crash()
  expect(g:write("with the new one")):ok()
end)

-- A change that would leave too few live members is refused, unless it is forced.
lab.test("a change without a quorum is refused", { nodes = 3, needs = { "processes" } }, function(g)
  expect(g:write("before")):ok()
  g:node(2):crash()
  -- The leader must notice the crash first: it decides by the beats that it hears.
  lab.sleep("2s")
  local outcome = g:leave(g:others(g:leader(), 2)[1])
  expect(outcome):refused()
  expect(outcome.reason):contains("no quorum")
end)
