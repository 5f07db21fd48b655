-- A tutorial: the API of labs, step by step. Play it, change it, break it:
--
--   upaxos-node lab scripts/labs/tutorial.lua                     in a simulated world, at once
--   upaxos-node lab scripts/labs/tutorial.lua --on raw            with real processes, over raw IP
--   upaxos-node lab scripts/labs/tutorial.lua --only "2." --seed 7
--
-- A script declares labs. Each has a name, options, and a function that receives a group: nodes, their network, their
-- disks, and clients. Every lab starts with a group of its own. It ends with the judges, which examine every
-- datagram, write and answer.

lab.test("1. requests and outcomes", { nodes = 3 }, function(g)
  -- The three nodes already run. A call that waits lets time pass: virtual time in `sim`, real time elsewhere.
  local outcome = g:write("hello")

  -- An operation ends ok, refused or unknown. A failed `expect` fails the lab. Its report contains the value, the line,
  -- the state of every node, and the command that repeats the lab.
  expect(outcome.status):equals("ok")
  expect(outcome.value):equals("hello")
  expect(g:history(outcome.instance).value):equals("hello")

  -- Reads: a safe read needs an instance of the log, a fast read needs none where that is possible.
  expect(g:read().value):contains("hello")
  expect(g:fast_read().value):equals("hello")

  -- No value has been chosen that far yet.
  expect(g:history(1000).status):equals("not_yet")
end)

lab.test("2. many things at once", { nodes = 3 }, function(g)
  -- Each request has a form that does not wait: it returns a future.
  local first, second = g:write_async("one"), g:write_async("two")
  expect(second:await()):ok()
  expect(first:await()):ok()

  -- A client is a session. `g` is one. This makes another.
  local other = g:client()
  expect(other:write("three").instance):above(first:await().instance)

  -- A task runs beside the rest, and ends with the lab.
  local task = lab.spawn(function(name)
    lab.sleep("50ms")
    return g:write(name).instance
  end, "four")
  expect(task:await()):at_least(4)

  -- A load is a stream of requests: a number of clients, a rate, a mix.
  local load = g:load({ clients = 3, rate = 100, lasts = "1s", mix = { write = 3, fast_read = 1 } })
  local summary = load:await()
  expect(summary.asked):equals(100)
  expect(summary.ok):equals(100)
end)

lab.test("3. nodes that fail", { nodes = 3 }, function(g)
  local leader = g:leader() -- waits for one
  leader:crash() -- kill -9

  -- The other nodes elect a new leader. Every wait has a limit, `within`; the default is 20 seconds.
  local next = g:leader({ not_among = { leader }, within = "10s" })
  expect(next):differs(leader)
  expect(g:write("without it")):ok()

  leader:start()
  -- An expectation of a function may take some time.
  expect(function()
    return leader:status().stance
  end, "the old leader"):within("10s"):equals("follows")

  -- A paused node is alive, and does not notice the pause.
  next:pause()
  lab.sleep("2s")
  next:resume()
  expect(g:write("after the pause")):ok()
end)

lab.test("4. a network that fails", { nodes = 3 }, function(g)
  local leader = g:leader()
  local others = g:others(leader)

  -- Two sides. A world whose links cannot fail (udp) skips this, and the report mentions it. The functions that make
  -- faults return whether they did.
  if g:partition({ leader }, others) then
    expect(g:leader({ among = others })):differs(leader)
  end
  g:heal()

  -- One direction only; some loss everywhere; datagrams that overtake each other.
  g:cut_one_way(others[1], others[2])
  g:network({ loss = 0.1, duplicate = 0.1, reorder = "5ms" })
  expect(g:write("through all that", { within = "30s" })):ok()
  g:heal()
end)

lab.test("5. members come and go", { nodes = 3, spares = 1 }, function(g)
  expect(g:members().members):equals({ 0, 1, 2 })

  -- Spares are hosts without a node. This one joins, and votes when the call returns.
  g:node(3):join()
  expect(g:members().members):equals({ 0, 1, 2, 3 })

  expect(g:leave(1)):ok()
  g:node(1):wait_ended()
  expect(function()
    return g:members().members
  end):within("5s"):equals({ 0, 2, 3 })
end)

lab.test("6. lines by hand, and the judges", { nodes = 3 }, function(g)
  g:leader()
  -- The same as typing the line: at least once, and without an answer here.
  g:send("Request 0 by hand")
  expect(function()
    return g:history(1).value
  end):within("5s"):equals("by hand")

  -- The judges may also run in the middle. They end every fault, start the nodes that are down, cut the power of all
  -- nodes (where that is possible), and read every log.
  g:check()
  expect(g:write("afterwards")):ok()
end)
