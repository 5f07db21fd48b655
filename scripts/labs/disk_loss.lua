-- Disk loss: a node that returns with an empty disk has forgotten its promises, and must not vote.
--
--   upaxos-node lab scripts/labs/disk_loss.lua [--on raw]
--
-- Its peers remember its disk's number. It learns and answers, but never votes again under its old id. A node with a
-- new id takes its place.

lab.test("disk loss", { nodes = 3, spares = 1, needs = { "processes" } }, function(g)
  expect(g:write("before")):ok()
  local node = g:others(g:leader())[1]
  node:crash()
  node:wipe()
  node:start()

  -- The others are a quorum, and go on.
  expect(g:write("meanwhile")):ok()
  -- It must not help to form one, however long the wait.
  for _ = 1, 5 do
    lab.sleep("500ms")
    local status = node:status()
    expect(status.state == "ended" or status.stance == "learns" or status.stance == nil, "no vote"):is_true()
  end

  g:node(3):join({ replaces = node })
  expect(g:write("with the new one")):ok()
  expect(g:members().members):contains(3)
end)
