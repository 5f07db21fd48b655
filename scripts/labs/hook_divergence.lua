-- Hooks: scripts in the nodes that agree about their states, and a script that does not.
--
--   upaxos-node lab scripts/labs/hook_divergence.lua [--on raw]
--
-- `apply` of a hook script runs on every node, in the order of the log. So each node computes the same state, with or
-- without crashes. The nodes constantly compare digests of these states.

lab.test("a replicated table", { nodes = 3, hooks = { "../hooks/kv.lua" } }, function(g)
  expect(g:write("set color red")):ok()
  expect(g:write("add visits 2")):ok()
  expect(g:write("add visits 3")):ok()
  expect(g:query("get color").value):contains("red")
  expect(g:fast_query("get visits").value):equals("5")

  -- Any other request is refused: the log contains the refusal, and no `apply` receives it.
  local outcome = g:write("paint it black")
  expect(outcome):refused()
  expect(outcome.reason):contains("set KEY VALUE")

  -- The state is computed from the log: it survives a power failure.
  if g:crash() then
    g:start()
  end
  expect(g:write("set color blue", { within = "30s" })):ok()
  expect(g:fast_query("get visits").value):equals("5")
  for _, node in ipairs(g:nodes()) do
    expect(node:status().diverged):is_nil()
  end
end)

-- This script counts the requests to its leader outside of the state, and uses the count in `apply`. So the leader's
-- state differs. The nodes find the exact instance. The deviating node ends, since its answers are wrong.
lab.test("hook divergence", { nodes = 3, hooks = { "hooks/impure.lua" } }, function(g)
  local leader = g:leader()
  for i = 1, 5 do
    expect(g:write("value " .. i)):ok()
  end
  local probe = g:write("probe")
  expect(probe):ok()

  local ended = leader:wait_ended({ within = "15s" })
  expect(ended.exit, "the exit status of the deviating node"):equals(1)
  expect(ended.words):contains("from instance " .. probe.instance .. " on")
  expect(ended.diverged):contains("at instance " .. probe.instance)
  expect(g:write("on without it", { within = "30s" })):ok()
end)
