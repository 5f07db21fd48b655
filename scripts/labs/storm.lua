-- Storm: all faults at once, drawn from the seed. Afterwards the group must work as before.
--
--   upaxos-node lab scripts/labs/storm.lua --seeds 0..1000
--   upaxos-node lab scripts/labs/storm.lua --on raw --seed 7
--
-- Loss, duplicates, delays, reordered datagrams and damaged bytes; nodes that crash, pause and return; partitions of
-- every shape; clients that write and read all the time. During the storm the group must only be safe. After it,
-- the group must answer again.

local SHAPES = { "alone", "star", "constrained", "chained", "ring" }

local function weather(g)
  g:network({
    loss = math.random() * 0.3,
    duplicate = math.random() * 0.2,
    corrupt = math.random() * 0.05,
    delay = math.random() * 0.005,
    reorder = math.random() * 0.02,
  })
end

local function trouble(g)
  local node = g:node(math.random(0, g.size - 1))
  local drawn = math.random(1, 4)
  if drawn == 1 then
    if node:status().state == "runs" and node:crash() then
      lab.sleep(math.random() * 0.5)
      node:start()
    end
  elseif drawn == 2 then
    if node:status().state == "runs" and node:pause() then
      lab.sleep(math.random() * 0.7)
      node:resume()
    end
  elseif drawn == 3 then
    g:topology(SHAPES[math.random(1, #SHAPES)], { center = node })
    lab.sleep(math.random() * 1.0)
    g:heal()
    weather(g)
  else
    g:cut_one_way(node, g:others(node))
    lab.sleep(math.random() * 0.5)
    g:heal()
    weather(g)
  end
end

lab.test("storm", { nodes = 5 }, function(g)
  g:leader()
  local load = g:load({ clients = 5, rate = 50, mix = { write = 4, read = 1, fast_read = 2, history = 1 } })
  weather(g)
  local ends = lab.now() + 5
  while lab.now() < ends do
    trouble(g)
    lab.sleep(math.random() * 0.2)
  end
  g:heal()
  expect(g:write("the storm is over")):ok()
  local summary = load:stop()
  lab.say(summary.ok, "answered,", summary.unknown, "unknown,", summary.refused, "refused")
end)
