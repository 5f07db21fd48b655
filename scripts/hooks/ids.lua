-- An allocator of ids without a lock: every request receives a block of numbers that no other request receives.
--
--   upaxos-node -n 3 -i 0 --script scripts/hooks/ids.lua       (the same on every node)
--
--   upaxos-send --wait Request 0 take orders worker-7          one number of the series "orders" for worker-7
--   upaxos-send --wait Request 0 take orders worker-7 100      a block of a hundred
--   upaxos-send --wait query of orders worker-7                the latest block of worker-7: "101 200"
--   upaxos-send --wait query next orders                       the lowest free number
--
-- The log is the lock: every node assigns the same numbers to the same requests, in the same order. A request with
-- a tag (upaxos-send --wait, upaxos-repl) receives one block, however often it is sent.

local LARGEST = 1000000

local function parse(value)
  local series, owner, count = value:match("^take (%S+) (%S+) ?(%d*)$")
  if not series then return nil end
  return series, owner, count == "" and 1 or tonumber(count)
end

local function request(value)
  local series, _, count = parse(value)
  if not series then return nil, "say take SERIES OWNER [COUNT]" end
  if count < 1 or count > LARGEST then return nil, "take from 1 to " .. LARGEST .. " at once" end
  return value
end

local function apply(st, value)
  local series, owner, count = parse(value)
  if not series then return end
  local last = st:add("last " .. series, count)
  st:set("block " .. series .. " " .. owner, string.format("%d %d", last - count + 1, last))
end

local function read(st, at)
  if not at.question then return at.last or "" end
  local series, owner = at.question:match("^of (%S+) (%S+)$")
  if series then
    local block = st:get("block " .. series .. " " .. owner)
    if not block then return nil, owner .. " has taken nothing of " .. series end
    return block
  end
  series = at.question:match("^next (%S+)$")
  if series then return string.format("%d", (st:get("last " .. series) or 0) + 1) end
  return nil, "ask of SERIES OWNER, or next SERIES"
end

return { request = request, apply = apply, read = read }
