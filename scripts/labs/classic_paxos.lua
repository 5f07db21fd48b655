-- Plain Paxos in the cases that classes teach: a refusal, a duel, the three schedules in which a naive node chooses
-- two values, and a proposer that dies in phase 2.
--
--   upaxos-node lab scripts/labs/classic_paxos.lua [--on udp]
--
-- An absent proposer speaks through `g:send`, by hand. Whatever it sends, the running nodes must agree.
-- (tests/classic.rs plays the exact same messages, with peers that the test controls.)

local options = { nodes = 3, classic = true }
local one_by_one = { nodes = 3, classic = true, start = false }

local function reads(g, instance, value)
  expect(function()
    return g:history(instance).value
  end, "instance " .. instance):within("10s"):equals(value)
end

-- Only this node hears the proposer's lines, and then it crashes.
local function alone(g, id, lines)
  local node = g:node(id)
  node:start()
  for _, line in ipairs(lines) do
    g:send(line)
    lab.sleep("50ms")
  end
  node:crash()
end

lab.test("NACK: a proposer that meets a higher ballot gives way, and retries above it", options, function(g)
  -- Node 2 asks for promises, and sends nothing more.
  g:send("2 Propose 1 5 nothing")
  lab.sleep("50ms")
  expect(g:write("one", { within = "20s" })):ok()
  reads(g, 1, "one")
end)

lab.test("a duel ends", options, function(g)
  for round = 1, 4 do
    -- The first node in rank hears of the request only after another one has started.
    g:node(0):pause()
    g:send("Request 0 duel " .. round)
    lab.sleep("35ms")
    g:node(0):resume()
    expect(g:write("after duel " .. round, { within = "20s" })):ok()
  end
end)

lab.test("one ballot, two values: the second is refused", options, function(g)
  g:send("2 Write 1 5 a")
  lab.sleep("50ms")
  g:send("2 Write 1 5 b")
  reads(g, 1, "a")
  expect(g:write("c", { within = "20s" })):ok()
  reads(g, 1, "a")
end)

lab.test("a late write of a lower ballot is refused", options, function(g)
  g:send("1 Propose 1 1 w")
  lab.sleep("50ms")
  expect(g:write("v", { within = "20s" })):ok()
  g:send("1 Write 1 1 w")
  lab.sleep("100ms")
  reads(g, 1, "v")
end)

lab.test("accepts in two ballots are no quorum", one_by_one, function(g)
  alone(g, 0, { "1 Write 1 1 u" })
  alone(g, 2, { "1 Write 1 4 w" })
  alone(g, 0, { "2 Propose 1 32 u" })
  alone(g, 1, { "2 Write 1 32 u" })
  -- u was accepted twice, in two ballots. These two nodes hear of it in ballot 1, and of w in ballot 4.
  g:node(0):start()
  g:node(2):start()
  expect(g:write("last", { within = "20s" })):ok()
  reads(g, 1, "w")
  g:node(1):start()
  expect(g:write("all three", { within = "20s" })):ok()
  reads(g, 1, "w")
end)

lab.test("a proposer that dies in phase 2 has perhaps chosen", one_by_one, function(g)
  -- The proposer's value reached one node. The next proposer hears that node, and must continue with the value.
  alone(g, 0, { "1 Propose 1 1 left behind", "1 Write 1 1 left behind" })
  g:node(0):start()
  g:node(2):start()
  expect(g:write("next", { within = "20s" })):ok()
  reads(g, 1, "left behind")
  reads(g, 2, "next")
  g:node(1):start()
  expect(g:write("all three", { within = "20s" })):ok()
end)

lab.test("the proposer is killed, again and again", options, function(g)
  for round = 1, 6 do
    local victim = g:node(round % 3)
    g:send("Request 0 killed " .. round)
    lab.sleep(round * 3 .. "ms")
    victim:crash()
    expect(g:write("without it " .. round, { within = "20s" })):ok()
    victim:start()
  end
end)
