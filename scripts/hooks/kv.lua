-- A replicated table of keys and values.
--
--   upaxos-node -n 3 -i 0 --script scripts/hooks/kv.lua        (the same on every node)
--
--   upaxos-send --wait Request 0 set color dark red            set the value of a key
--   upaxos-send --wait Request 0 add visits 2                  add to a number (0 if there is none)
--   upaxos-send --wait Request 0 cas color dark green          set "green" if the value is "dark"
--   upaxos-send --wait Request 0 del color                     remove a key
--   upaxos-send --wait query get color                         the value of a key
--   upaxos-send --wait --fast query get color                  the same without an instance
--   upaxos-send --wait query list co                           keys that start with "co", and their values
--   upaxos-send --wait query count                             the number of keys
--
-- A key has no blanks. `cas` compares one word with one word. A `cas` that does not match changes nothing; a later
-- query shows that. Any other request is refused: the log contains the refusal, and no `apply` receives it.

local MOST_LISTED = 100

local function split(value)
  local command, key, rest = value:match("^(%l+) ?(%S*) ?(.*)$")
  return command, key, rest
end

local usage = "say set KEY VALUE, add KEY NUMBER, cas KEY OLD NEW, or del KEY"

local function request(value)
  local command, key, rest = split(value)
  if key == nil or key == "" then return nil, usage end
  if command == "set" and rest ~= "" then return value end
  if command == "add" and tonumber(rest) and tonumber(rest) == tonumber(rest) then return value end
  if command == "cas" and rest:match("^%S+ %S+$") then return value end
  if command == "del" and rest == "" then return value end
  return nil, usage
end

local function apply(st, value)
  local command, key, rest = split(value)
  if command == "set" then
    st:set(key, rest)
  elseif command == "del" then
    st:del(key)
  elseif command == "add" then
    local number = tonumber(st:get(key) or 0)
    if not number then error(key .. " holds no number") end
    st:set(key, number + tonumber(rest))
  elseif command == "cas" then
    local old, new = rest:match("^(%S+) (%S+)$")
    if tostring(st:get(key)) == old then st:set(key, new) end
  end
end

local function read(st, at)
  if not at.question then return at.last or "" end
  local command, key = at.question:match("^(%l+) ?(.*)$")
  if command == "get" then
    local found = st:get(key)
    if found == nil then return nil, "no key " .. key end
    return tostring(found)
  elseif command == "count" then
    return tostring(st:len())
  elseif command == "list" then
    local lines = {}
    for name, found in st:prefix(key) do
      if #lines == MOST_LISTED then
        lines[#lines + 1] = "..."
        break
      end
      lines[#lines + 1] = name .. "=" .. tostring(found)
    end
    return table.concat(lines, "\n")
  end
  return nil, "ask get KEY, list PREFIX, or count"
end

return { request = request, apply = apply, read = read }
