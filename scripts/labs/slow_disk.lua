-- Slow and failing disks: a node sends no vote before it is on disk, and ends after a failed sync.
--
--   upaxos-node lab scripts/labs/slow_disk.lua [--on raw]

-- A node sends its votes only when they are durable, so a slow disk makes its votes slow. A quorum of fast nodes does
-- not wait for it. A slow leader slows every request, and is still safe.
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

-- A failed sync may have lost anything. The node ends at once, with an exit status for this case, and vouches for
-- nothing. After a restart it continues with the contents of its disk.
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
