-- The demo: three nodes, one log, and a crash. `upaxos-node demo` plays it where real nodes are available:
--
--   upaxos-node demo
--   upaxos-node lab scripts/labs/demo.lua          the same in a simulated world

local function write(g, value)
  local outcome
  lab.step("write", function()
    outcome = g:write(value)
    expect(outcome, "write " .. value):ok()
    expect(outcome.value, "what was chosen"):equals(value)
    return value .. ", chosen at instance " .. outcome.instance, outcome.took
  end)
  return outcome.instance
end

local function leader(g, options)
  local found
  lab.step("leader", function()
    found = g:leader(options)
    return tostring(found)
  end)
  return found
end

lab.test("demo", { nodes = 3, start = false }, function(g)
  lab.step("start", function()
    g:start()
    return "nodes 0, 1 and 2, each with a directory of its own"
  end)
  local first = leader(g)
  write(g, "one")
  local second = write(g, "two")
  write(g, "three")
  lab.step("read", function()
    local outcome = g:history(second)
    expect(outcome.value, "instance " .. second):equals("two")
    return "instance " .. second .. " is two", outcome.took
  end)

  lab.step("kill -9", function()
    first:crash()
    return tostring(first) .. ", the leader"
  end)
  local last = write(g, "four")
  leader(g, { not_among = { first } })

  lab.step("restart", function()
    first:start()
    first:wait_learned(last)
    return tostring(first) .. ", which asks the others for what it missed"
  end)
  lab.step("compare", function()
    local values = {}
    for instance = 1, last do
      local value = g:history(instance).value
      if value and value ~= "" then
        values[#values + 1] = value
      end
    end
    for _, value in ipairs({ "one", "two", "three", "four" }) do
      expect(values, "the log"):contains(value)
    end
    g:check()
    return "all three disks hold one, two, three, four"
  end)
end)
