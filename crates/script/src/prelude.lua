-- The names that a script finds in its environment, and those that it does not find.
--
-- Runs once, before the script, with the whole of Luau's library, and returns the names to keep. It changes a
-- function for one of these reasons: the original reveals an address in memory, catches an error that must not be
-- caught, reveals when memory is collected, or does much work in what counts as one step.

local charge, check = ...

local raw = {
  pcall = pcall, xpcall = xpcall, tostring = tostring, setmetatable = setmetatable, format = string.format,
  resume = coroutine.resume, close = coroutine.close, concat = table.concat, sort = table.sort,
  insert = table.insert, remove = table.remove, move = table.move, create = table.create, clone = table.clone,
  find = table.find, rep = string.rep, fill = buffer.fill, copy = buffer.copy,
}
local type, select, error, getmetatable, rawget = type, select, error, getmetatable, rawget
local isfrozen, freeze, pack, unpack, log = table.isfrozen, table.freeze, table.pack, table.unpack, math.log
local sfind = string.find

-- An error that ends a call must not be caught: `check` raises it again.
local function caught(ok, ...)
  if not ok then check((...)) end
  return ok, ...
end

function pcall(f, ...) return caught(raw.pcall(f, ...)) end

function xpcall(f, handler, ...)
  return caught(raw.xpcall(f, function(problem)
    check(problem)
    return handler(problem)
  end, ...))
end

coroutine.resume = function(thread, ...) return caught(raw.resume(thread, ...)) end
coroutine.close = function(thread) return caught(raw.close(thread)) end

-- The address of a table or function differs between nodes.
local plain = { string = true, number = true, boolean = true, ["nil"] = true }

local function text(value)
  local kind = type(value)
  if plain[kind] then return raw.tostring(value) end
  local meta = kind == "table" and getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then return raw.tostring(value) end
  return kind
end

function tostring(...)
  if select("#", ...) == 0 then error("tostring needs a value", 2) end
  return text((...))
end

string.format = function(form, ...)
  local count = select("#", ...)
  for place = 1, count do
    if not plain[type((select(place, ...)))] then
      local values = pack(...)
      for at = place, count do
        if not plain[type(values[at])] then values[at] = text(values[at]) end
      end
      return raw.format(form, unpack(values, 1, count))
    end
  end
  return raw.format(form, ...)
end

-- Weak tables reveal when memory is collected. A metatable could be made weak later: it is frozen.
function setmetatable(value, meta)
  if type(meta) == "table" then
    if rawget(meta, "__mode") ~= nil then
      error("rule: no weak tables (`__mode`): they would show when memory is collected", 2)
    end
    local result = raw.setmetatable(value, meta)
    if not isfrozen(meta) then freeze(meta) end
    return result
  end
  return raw.setmetatable(value, meta)
end

-- Charges work that would otherwise count as one step. A step stands for about a thousand bytes, or a few dozen
-- elements.
local function length(value)
  local kind = type(value)
  return (kind == "string" or kind == "table") and #value or 0
end

-- Up to this product of lengths a pattern search is not charged, which is nearly always the case. A balance has
-- four letters (`%b()`), so a search for one in a long text is
-- always charged below.
local LITTLE = 1024

-- A search may look for a balance (`%b`) up to the end from every place, each of which is a step.
local FAR = 256

local function scan(subject, pattern)
  local long = #subject
  local cost = long * #pattern / LITTLE
  if long > FAR and sfind(pattern, "%b", 1, true) then cost = cost + long * long / 256 end
  return cost
end

-- None of these functions takes more than four arguments: a variable number would cost more.
local function scanned(name)
  local original = string[name]
  string[name] = function(subject, pattern, third, fourth)
    if type(subject) == "string" and type(pattern) == "string" and #subject * #pattern >= LITTLE then
      charge(scan(subject, pattern))
    end
    return original(subject, pattern, third, fourth)
  end
end

for _, name in { "find", "match", "gmatch", "gsub", "split" } do scanned(name) end

string.rep = function(subject, count, ...)
  if type(count) == "number" then charge(length(subject) * count / 1024) end
  return raw.rep(subject, count, ...)
end

table.concat = function(list, ...)
  charge(length(list) / 32)
  return raw.concat(list, ...)
end

table.sort = function(list, ...)
  local long = length(list)
  if long > 1 then charge(long * log(long, 2) / 32) end
  return raw.sort(list, ...)
end

table.insert = function(list, ...)
  charge(length(list) / 64)
  return raw.insert(list, ...)
end

table.remove = function(list, place, ...)
  if place == nil then return raw.remove(list) end
  charge(length(list) / 64)
  return raw.remove(list, place, ...)
end

table.move = function(from, first, last, ...)
  if type(first) == "number" and type(last) == "number" and last > first then charge((last - first) / 32) end
  return raw.move(from, first, last, ...)
end

-- A large table that was emptied makes every lookup slow: no table starts large.
local LARGEST = 65536

table.create = function(count, ...)
  if type(count) == "number" then
    if count > LARGEST then error("rule: table.create makes at most " .. LARGEST .. " elements", 2) end
    charge(count / 32)
  end
  return raw.create(count, ...)
end

table.clone = function(list)
  charge(length(list) / 32)
  return raw.clone(list)
end

table.find = function(list, ...)
  charge(length(list) / 32)
  return raw.find(list, ...)
end

buffer.fill = function(target, offset, value, count)
  charge((count or buffer.len(target)) / 1024)
  return raw.fill(target, offset, value, count)
end

buffer.copy = function(target, offset, source, from, count)
  charge((count or buffer.len(source)) / 1024)
  return raw.copy(target, offset, source, from, count)
end

-- No randomness, no clock, nothing that differs between two runs.
for _, name in { "random", "randomseed", "noise" } do math[name] = nil end
for _, name in { "clear", "foreach", "foreachi", "getn", "maxn" } do table[name] = nil end

return {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset",
  "select", "setmetatable", "tonumber", "tostring", "type", "typeof", "unpack", "xpcall",
  "bit32", "buffer", "coroutine", "math", "string", "table", "utf8", "log",
}
