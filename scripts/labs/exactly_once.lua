-- Exactly once: a request that is sent many times is carried out once.
--
--   upaxos-node lab scripts/labs/exactly_once.lua [--on raw]
--
-- A client tags its requests: a number for itself, and one for each request. The tag is chosen with the value, and a
-- second choice of the same tag is void. So a client may retransmit until it has an answer, through lost answers,
-- duplicates and new leaders.

lab.test("exactly once", { nodes = 3 }, function(g)
  local COUNT = 40
  g:network({ loss = 0.2, duplicate = 0.3, reorder = "10ms" })
  local client = g:client()
  local futures = {}
  for i = 1, COUNT do
    futures[i] = client:write_async("value " .. i, { within = "60s" })
    if i == COUNT / 2 then
      local leader = g:leader()
      if leader:crash() then
        leader:start()
      end
    end
  end

  local highest = 0
  for i = 1, COUNT do
    local outcome = futures[i]:await()
    expect(outcome, "write " .. i):ok()
    highest = math.max(highest, outcome.instance)
  end
  g:heal()
  -- The node that answers must have learned it all: else it rightly answers "not yet".
  g:wait_learned(highest)

  local times = {}
  for instance = 1, highest do
    local value = g:history(instance).value
    times[value] = (times[value] or 0) + 1
  end
  for i = 1, COUNT do
    expect(times["value " .. i], "how often value " .. i .. " is in the log"):equals(1)
  end
end)

-- Two sessions that write the same value are two requests.
lab.test("the same value twice", { nodes = 3 }, function(g)
  local first, second = g:client():write("same"), g:client():write("same")
  expect(first):ok()
  expect(second.instance):above(first.instance)
end)
