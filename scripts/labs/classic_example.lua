-- The classic example: one, two, three, and a query, typed by hand as with netcat.
--
--   upaxos-node lab scripts/labs/classic_example.lua [--on raw]
--
-- Lines typed by hand carry no tag, so a repeated line is a second request. This lab therefore reads the log in order,
-- and counts each value where it first occurs.

local function values(g, last)
  local found, seen = {}, {}
  for instance = 1, last do
    local value = g:history(instance).value
    if value and not seen[value] then
      seen[value] = true
      found[#found + 1] = value
    end
  end
  return found
end

local function typed(g)
  g:leader()
  for instance, value in ipairs({ "one", "two", "three" }) do
    g:send("Request 0 " .. value)
    lab.wait_until(function()
      return #values(g, instance + 2) == instance
    end, { what = value .. " to be chosen" })
  end
end

lab.test("the classic example", { nodes = 3 }, function(g)
  typed(g)
  expect(values(g, 5)):equals({ "one", "two", "three" })

  -- The power fails. After the restart each node has its log, and the second value is still two.
  if g:crash() then
    g:start()
  end
  expect(function()
    return values(g, 5)
  end, "the values"):within("10s"):equals({ "one", "two", "three" })
end)

-- The same in the classic grammar: plain Paxos, both phases for every request, one instance at a time.
lab.test("the classic example, plain Paxos", { nodes = 3, classic = true }, function(g)
  for _, value in ipairs({ "one", "two", "three" }) do
    expect(g:write(value)):ok()
  end
  expect(g:history(2).value):equals("two")
end)
