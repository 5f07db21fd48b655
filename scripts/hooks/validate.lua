-- A validator: only well-formed lines enter the log.
--
--   upaxos-node -n 3 -i 0 --script scripts/hooks/validate.lua
--
--   upaxos-send --wait Request 0 temperature kitchen 21.5      OK: unchanged
--   upaxos-send --wait Request 0 "  temperature kitchen 21,5"  OK: blanks are removed, the comma becomes a point
--   upaxos-send --wait Request 0 temperature kitchen hot       refused, with the reason
--
-- Adapt FIELDS and the checks. The leader calls this script once for every proposal, and the script's result enters
-- the log. It keeps no state, so SIGHUP may load a new version at any time.

local FIELDS = { temperature = { -90, 60 }, humidity = { 0, 100 } }

local function request(value)
  local what, where, number = value:match("^%s*(%a+)%s+([%w_-]+)%s+(%S+)%s*$")
  if not what then return nil, "expected: WHAT WHERE NUMBER" end
  local limits = FIELDS[what]
  if not limits then return nil, "unknown measure " .. what end
  local measured = tonumber((number:gsub(",", ".")))
  if not measured then return nil, number .. " is no number" end
  if measured < limits[1] or measured > limits[2] then
    return nil, what .. " is from " .. limits[1] .. " to " .. limits[2]
  end
  return what .. " " .. where .. " " .. tostring(measured)
end

return { request = request }
