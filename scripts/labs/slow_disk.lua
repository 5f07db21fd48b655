-- Slow and failing disks: no answer before the disk has it, and no node that goes on after a failed sync.
--
--   upaxos-node lab scripts/labs/slow_disk.lua [--on raw]

-- Nothing that a vote claims is sent before it is durable, so a slow disk makes its node's votes slow. A quorum
-- of fast ones does not wait for it; a slow leader is slow for all, and still safe.
lab.test("slow disk", { nodes = 3, needs = { "disk" } }, function(g)
  local leader = g:leader()
  local slow = g:others(leader)[1]
  slow:disk({ slow = "300ms" })
  expect(g:write("a follower is slow").took, "seconds"):below(5)
  slow:disk()

  leader:disk({ slow = "300ms" })
  expect(g:write("the leader is slow", { within = "20s" })):ok()
  leader:disk()
  expect(g:write("all are well")):ok()
end)

-- A sync that fails may have lost anything: the node ends at once, with a status that says so, and answers for
-- nothing. Started again it goes by what its disk has.
lab.test("failing disk", { nodes = 3, needs = { "disk" } }, function(g)
  local leader = g:leader()
  expect(g:write("before")):ok()
  if leader:disk({ sync_fails = true }) then
    local write = g:write_async("across the failure")
    expect(leader:wait_ended().exit, "exit status"):equals(1)
    expect(write:await()):ok()
    leader:disk()
    leader:start()
  end
  expect(g:write("after")):ok()
end)
