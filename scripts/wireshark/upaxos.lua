-- Wireshark dissector for upaxos: one subtree per line of a datagram.
--
-- Use: tshark -X lua_script:scripts/wireshark/upaxos.lua -i any 'ip proto 253'
-- or put the file into Wireshark's folder of personal Lua plugins.
-- Filters: upaxos.verb == "Write", upaxos.instance == 7, upaxos.from == 2, upaxos.value contains "one",
-- upaxos.malformed.
--
-- The checksum of each datagram is verified. The grammar is the table in docs/protocol.md, "The wire". A line that no node would accept is marked as malformed, with the
-- reason. Tests compare that with the parser of the nodes, for every verb. The same rules apply to lines of classic
-- groups, though classic nodes are less strict about white space.

local upaxos = Proto("upaxos", "upaxos")

local f = {
  from = ProtoField.uint32("upaxos.from", "From node"),
  verb = ProtoField.string("upaxos.verb", "Verb"),
  instance = ProtoField.uint64("upaxos.instance", "Instance"),
  last = ProtoField.string("upaxos.last", "Last instance"),
  ballot = ProtoField.string("upaxos.ballot", "Ballot"),
  accepted = ProtoField.string("upaxos.accepted", "Accepted in ballot"),
  learned = ProtoField.uint64("upaxos.learned", "Learned up to"),
  client = ProtoField.uint64("upaxos.client", "Client"),
  seq = ProtoField.uint64("upaxos.seq", "Sequence number"),
  floor = ProtoField.uint64("upaxos.floor", "Floor"),
  begin = ProtoField.uint64("upaxos.begin", "New sessions begin above"),
  pause = ProtoField.uint64("upaxos.pause", "Milliseconds to wait"),
  epoch = ProtoField.uint64("upaxos.epoch", "Epoch"),
  nonce = ProtoField.uint64("upaxos.nonce", "Nonce of a round of fast reads"),
  mark = ProtoField.uint64("upaxos.mark", "Mark: nothing above was accepted"),
  node = ProtoField.uint32("upaxos.node", "Node"),
  new = ProtoField.uint32("upaxos.new", "New node"),
  force = ProtoField.string("upaxos.force", "Even without a live quorum"),
  n = ProtoField.uint32("upaxos.n", "Size of the first group"),
  incarnation = ProtoField.uint64("upaxos.incarnation", "Incarnation"),
  start = ProtoField.uint64("upaxos.start", "Start"),
  boot = ProtoField.uint64("upaxos.boot", "Boot"),
  stance = ProtoField.string("upaxos.stance", "Stance"),
  heard = ProtoField.string("upaxos.heard", "Nodes"),
  every = ProtoField.uint64("upaxos.every", "Milliseconds between two beats"),
  words = ProtoField.uint64("upaxos.words", "Fingerprint of a request's words"),
  digest = ProtoField.uint64("upaxos.digest", "Digest of what a script computed"),
  bytes = ProtoField.string("upaxos.bytes", "Digest of the values"),
  count = ProtoField.uint64("upaxos.count", "How many"),
  chain = ProtoField.string("upaxos.chain", "Digest of what was learned"),
  source = ProtoField.uint64("upaxos.source", "Source of a script"),
  script = ProtoField.string("upaxos.script", "Script"),
  value = ProtoField.string("upaxos.value", "Value"),
  group = ProtoField.string("upaxos.group", "Identity of the group"),
  name = ProtoField.string("upaxos.name", "Name of the group"),
  datagram = ProtoField.uint64("upaxos.datagram", "Number of a datagram in parts"),
  place = ProtoField.uint32("upaxos.place", "Part"),
  parts = ProtoField.uint32("upaxos.parts", "Parts in all"),
  missing = ProtoField.string("upaxos.missing", "Missing parts"),
  text = ProtoField.string("upaxos.text", "Text of the part"),
  sum = ProtoField.string("upaxos.sum", "Checksum"),
  malformed = ProtoField.string("upaxos.malformed", "Malformed"),
}
upaxos.fields = f

local e = {
  malformed = ProtoExpert.new(
    "upaxos.expert.malformed", "Malformed line", expert.group.MALFORMED, expert.severity.ERROR),
}
upaxos.experts = e

-- The fields after each verb, by the names of their readers (below), in the order of the line. After `?` the line may
-- end. The names after `*` repeat to the end of the line.
local client_forms = {
  For = "group ? name",
  Request = "instance_or_0 ? literal",
  Submit = "client seq floor value",
  Read = "client seq floor",
  FastRead = "client seq floor",
  Query = "client seq floor value",
  FastQuery = "client seq floor value",
  Change = "client seq floor change",
  leave = "node ? force",
  replace = "node new ? force",
  members = "",
  quit = "",
  exit = "",
  bye = "",
  Part = "datagram place parts text",
  Missing = "datagram missing",
}
local node_forms = {
  From = "incarnation group ? name",
  Propose = "instance ballot ? literal",
  ProposeAll = "instance ballot",
  Promise = "instance ballot ? accepted value",
  PromiseNone = "instance last_or_none ballot learned",
  Write = "instance ballot value",
  WriteTags = "instance last ballot bytes runs",
  Fetch = "instance last ballot",
  Accept = "instance ballot value",
  Accepts = "instance last ballot",
  NACK = "instance ballot",
  Written = "instance value",
  Chosen = "instance last ballot",
  Gap = "instance last",
  Join = "learned",
  JoinFor = "learned node",
  AskMark = "epoch nonce",
  Mark = "epoch nonce mark",
  Members = "epoch learned heard",
  OK = "instance value",
  Done = "instance last client seq",
  Answer = "instance client seq value",
  Value = "instance_or_0 learned client seq value",
  Reply = "learned client seq value",
  NotYet = "instance learned",
  Refused = "client seq value",
  Busy = "client seq pause",
  Unknown = "client seq",
  Forgotten = "client seq begin",
  Error = "value",
  Relay = "? value",
  Dropped = "words",
  AskDigest = "instance script",
  Digest = "instance digest source script",
  AskChain = "instance",
  Chain = "instance chain",
  Differs = "instance node",
  Beat = "n incarnation start boot ballot_or_none learned stance heard",
  Pace = "every ballot_or_none",
  Register = "n incarnation start boot * boot",
  Registered = "node boot",
  Barred = "node boot incarnation start ? boot",
  Part = "datagram place parts text",
}
-- The last line of a datagram with a head is `Sum H`: the newline before it, the verb, 8 digits.
local SUM_LINE = #"\nSum 12345678"
-- The verb that `& V` continues, and the number that it increases.
local continued = { Submit = "seq", Write = "instance", Written = "instance" }

local MAX = "9223372036854775807"
local MAX_ID = "65535"

-- The digits of a plain decimal of at most `max`, without leading zeros; or nil.
local function decimal(text, max)
  if #text > 20 or not text:match("^%d+$") then return nil end
  local digits = text:gsub("^0+(%d)", "%1")
  local fits = #digits < #max or (#digits == #max and digits <= max)
  return fits and digits or nil
end

-- Number fields: the field that displays each, and its bounds.
local numbers = {
  instance = { least = 1 }, instance_or_0 = { field = "instance" },
  learned = {}, client = {}, seq = {}, floor = {}, begin = {}, pause = {}, epoch = {}, nonce = {}, mark = {},
  incarnation = {}, start = {}, boot = {}, words = {}, digest = {}, source = {}, datagram = {}, count = { least = 1 },
  every = { most = "10000" },
  node = { most = MAX_ID }, new = { most = MAX_ID }, n = { most = MAX_ID },
  place = { least = 1, most = "1024" }, parts = { least = 2, most = "1024" },
}

local function is_ballot(text)
  local epoch, number = text:match("^([^:]*):(.*)$")
  if not epoch then return decimal(text, MAX) ~= nil end
  return decimal(epoch, MAX) ~= nil and decimal(number, MAX) ~= nil
end

local function is_list(text, is_item)
  for item in (text .. ","):gmatch("([^,]*),") do
    if not is_item(item) then return false end
  end
  return true
end

local function is_hex(text, length)
  return #text == length and text:match("^[0-9a-f]+$") ~= nil
end

-- The remainders of CRC-32C, for every byte.
local remainders = {}
for byte = 0, 255 do
  local rest = byte
  for _ = 1, 8 do
    local odd = bit.band(rest, 1) == 1
    rest = bit.rshift(rest, 1)
    if odd then rest = bit.bxor(rest, 0x82f63b78) end
  end
  remainders[byte] = rest
end

-- The CRC-32C of a text, as 8 hexadecimal digits.
local function crc32c(text)
  local rest = 0xffffffff
  for at = 1, #text do
    rest = bit.bxor(remainders[bit.band(bit.bxor(rest, text:byte(at)), 0xff)], bit.rshift(rest, 8))
  end
  return bit.tohex(bit.bnot(rest))
end

local stances = { leads = true, seeks = true, follows = true, waits = true, learns = true }

-- Word fields: the field that displays each, and its form.
local words = {
  ballot = { is = is_ballot, must = "a ballot" },
  accepted = { is = is_ballot, must = "a ballot" },
  ballot_or_none = {
    field = "ballot", must = "a ballot, or -",
    is = function(text) return text == "-" or is_ballot(text) end,
  },
  last = { must = "an instance", is = function(text) return (decimal(text, MAX) or "0") ~= "0" end },
  last_or_none = {
    field = "last", must = "an instance, or *",
    is = function(text) return text == "*" or (decimal(text, MAX) or "0") ~= "0" end,
  },
  heard = {
    must = "ids with commas, or -",
    is = function(text)
      return text == "-" or is_list(text, function(id) return decimal(id, MAX_ID) ~= nil end)
    end,
  },
  missing = {
    must = "parts and ranges of parts with commas",
    is = function(text)
      return is_list(text, function(range)
        local first, last = range:match("^(%d+)%-(%d+)$")
        local from, to = decimal(first or range, "1024"), decimal(last or range, "1024")
        if not from or not to or from == "0" then return false end
        return not last or tonumber(from) < tonumber(to)
      end)
    end,
  },
  bytes = { must = "a digest of 64 hexadecimal digits", is = function(text) return is_hex(text, 64) end },
  chain = { must = "a digest of 32 hexadecimal digits", is = function(text) return is_hex(text, 32) end },
  group = {
    must = "the identity of a group, or -",
    is = function(text) return text == "-" or is_hex(text, 16) end,
  },
  name = {
    must = "the name of a group",
    is = function(text) return #text <= 24 and text ~= "-" and text:match("^[%w%._%-]+$") ~= nil end,
  },
  script = { must = "the name of a script", is = function(text) return #text > 0 and #text <= 64 end },
  stance = { must = "what a node does", is = function(text) return stances[text] end },
  force = { must = "force", is = function(text) return text == "force" end },
}

-- The rest of the line: the field that displays it, and whether a backslash starts an escape.
local rests = { value = { escapes = true }, literal = { field = "value" }, text = {} }

local function has_bad_escape(text)
  return text:gsub("\\[nr\\]", ""):find("\\", 1, true) ~= nil
end

-- The line being read: `text` holds its bytes, `at` is the start of the next field, from 1, or nil after the last.
local Line = {}
Line.__index = Line

-- The bytes of a part of the line. Empty for an empty part.
function Line:part(first, length)
  if length == 0 then return nil end
  return self.range(first - 1, length)
end

function Line:add(name, text, first, value)
  local range = self:part(first, #text) or self.range
  -- The value is passed as raw bytes, so bytes that are not valid text are harmless.
  if value == nil and #text > 0 then
    self.tree:add_packet_field(f[name], range, ENC_UTF_8)
  else
    self.tree:add(f[name], range, value or "")
  end
end

function Line:complain(what, first, length)
  self.is_malformed = true
  local range = first and self:part(first, length) or self.range
  self.tree:add(f.malformed, range, what)
  self.tree:add_proto_expert_info(e.malformed, what)
end

-- The next field and its start; nil when there is none.
function Line:next()
  local first = self.at
  if not first then return nil end
  local space = self.text:find(" ", first, true)
  self.at = space and space + 1
  return self.text:sub(first, (space or #self.text + 1) - 1), first
end

function Line:number(name)
  local spec = numbers[name]
  local text, first = self:next()
  if not text then return self:complain(name .. " is missing") end
  local digits = decimal(text, spec.most or MAX)
  if not digits or (spec.least or 0) > tonumber(digits) then
    return self:complain(name .. " is no number in range: " .. text, first, #text)
  end
  local field = spec.field or name
  self.seen[field] = UInt64(digits)
  local is_small = spec.most == MAX_ID or spec.most == "1024"
  self:add(field, text, first, is_small and tonumber(digits) or self.seen[field])
end

function Line:word(name)
  local spec = words[name]
  local text, first = self:next()
  if not text then return self:complain(name .. " is missing") end
  if not spec.is(text) then return self:complain(name .. " is not " .. spec.must .. ": " .. text, first, #text) end
  self:add(spec.field or name, text, first)
  if (spec.field or name) == "last" and text ~= "*" and self.seen.instance then
    self.seen.last = UInt64(decimal(text, MAX))
    if self.seen.last < self.seen.instance then
      self:complain("the range ends before it begins", first, #text)
    end
  end
end

function Line:rest(name)
  local spec = rests[name]
  local first = self.at
  if not first then return self:complain(name .. " is missing") end
  local text = self.text:sub(first)
  self.at = nil
  if spec.escapes and has_bad_escape(text) then
    self:complain("a backslash that begins none of \\n, \\r and \\\\", first, #text)
  end
  self:add(spec.field or name, text, first)
end

-- For `WriteTags`: tags, each with the number of its followers, as many as there are instances.
function Line:runs()
  local open = self.seen.last - self.seen.instance + UInt64(1)
  while not self.is_malformed and open > UInt64(0) do
    self:fields("client seq count")
    if not self.is_malformed then
      if self.seen.count > open then return self:complain("more requests than instances") end
      if self.seen.count > UInt64(MAX) - self.seen.seq + UInt64(1) then
        return self:complain("a sequence number out of range")
      end
      open = open - self.seen.count
    end
  end
end

-- For `Change`: one of an operator's lines.
function Line:change()
  local verb, first = self:next()
  if verb ~= "leave" and verb ~= "replace" then return self:complain("no change of the group", first, #(verb or "")) end
  self:add("verb", verb, first)
  self:fields(client_forms[verb])
end

function Line:field(name)
  if numbers[name] then return self:number(name) end
  if words[name] then return self:word(name) end
  if rests[name] then return self:rest(name) end
  self[name](self)
end

-- Reads fields. The fields after a malformed one are not read, as in the nodes.
function Line:fields(form)
  local repeats
  for name in form:gmatch("%S+") do
    if self.is_malformed or (name == "?" and not self.at) then return end
    if name == "*" then
      repeats = true
    elseif name ~= "?" then
      if repeats and not self.at then return end
      repeat
        self:field(name)
      until not repeats or not self.at or self.is_malformed
    end
  end
end

local function dissect_line(range, tree, state)
  local branch = tree:add(upaxos, range, range:string(ENC_UTF_8))
  local line = setmetatable({ range = range, tree = branch, text = range:raw(), at = 1, seen = {} }, Line)
  local verb, first = line:next()
  local form = client_forms[verb]
  local id = not form and decimal(verb, MAX_ID)
  local is_continued = verb == "&" and line.at ~= nil
  if id then
    line:add("from", verb, first, tonumber(id))
    verb, first = line:next()
    form = verb and node_forms[verb]
  end
  local before = state.before
  state.before = nil
  if is_continued then
    line:add("verb", verb, first)
    line:rest("value")
    if not before then
      line:complain("continues nothing")
    elseif before.number == UInt64(MAX) then
      line:complain(before.field .. " is no number in range")
    else
      before = { field = before.field, number = before.number + UInt64(1) }
      branch:add(f[before.field], before.number):set_generated()
      state.before = not line.is_malformed and before or nil
    end
  elseif not form then
    line:complain(id and not verb and "the verb is missing" or "no verb that is known", first, #(verb or ""))
  else
    line:add("verb", verb, first)
    if (verb == "From" or verb == "For") and not state.is_first then
      line:complain("a head that does not come first")
    end
    line:fields(form)
    if line.at and not line.is_malformed then
      line:complain("text after the last field", line.at, #line.text - line.at + 1)
    end
    local seen = line.seen
    if verb == "Part" and seen.place and seen.parts and seen.place > seen.parts then
      line:complain("there are not so many parts")
    end
    if not line.is_malformed and continued[verb] then
      state.before = { field = continued[verb], number = seen[continued[verb]] }
    end
  end
  if line.is_malformed then return form and verb .. " (malformed)" or "malformed" end
  return verb
end

-- Shows the checksum, the last line. Nodes drop the whole datagram if it is wrong.
local function dissect_sum(range, tree, text)
  local branch = tree:add(upaxos, range, range:string(ENC_UTF_8))
  local line = setmetatable({ range = range, tree = branch, text = range:raw(), at = 1, seen = {} }, Line)
  local verb, first = line:next()
  assert(verb == "Sum")
  line:add("verb", verb, first)
  local sum, place = line:next()
  line:add("sum", sum, place)
  local right = crc32c(text)
  if sum ~= right then line:complain("the datagram was damaged: the checksum of its bytes is " .. right, place, #sum) end
  return line.is_malformed and "Sum (malformed)" or "Sum"
end

-- Whether the datagram is one that nodes and clients send with a checksum: it has a head, or is a part.
local function needs_sum(bytes)
  local first = bytes:match("^[^\n]*")
  return first:find("^%d* From ") or first:find("^For ") or first:find("^Part ")
end

function upaxos.dissector(buffer, packet, root)
  packet.cols.protocol = "upaxos"
  local tree = root:add(upaxos, buffer())
  local verbs, count, at = {}, {}, 0
  local state, bytes = {}, buffer:raw()
  local has_sum = bytes:find("\nSum %x%x%x%x%x%x%x%x$") and not bytes:find("%u", #bytes - 7)
  local last = has_sum and #bytes - SUM_LINE or #bytes
  local function note(verb)
    if not count[verb] then verbs[#verbs + 1] = verb end
    count[verb] = (count[verb] or 0) + 1
  end
  while at < last do
    local stop = math.min((bytes:find("\n", at + 1, true) or #bytes + 1) - 1, last)
    -- The text of a part goes on to the checksum, newlines included.
    if bytes:find("^%d* ?Part ", at + 1) then stop = last end
    if stop > at then
      state.is_first = at == 0
      note(dissect_line(buffer(at, stop - at), tree, state))
    end
    at = stop + 1
  end
  if has_sum then
    note(dissect_sum(buffer(last + 1, SUM_LINE - 1), tree, bytes:sub(1, last + 1)))
  elseif needs_sum(bytes) then
    tree:add(f.malformed, "a head without a checksum at the end")
    tree:add_proto_expert_info(e.malformed, "a head without a checksum at the end")
    note("no Sum (malformed)")
  end
  for place, verb in ipairs(verbs) do
    if count[verb] > 1 then verbs[place] = verb .. " x" .. count[verb] end
  end
  packet.cols.info = table.concat(verbs, ", ")
end

DissectorTable.get("ip.proto"):add(253, upaxos)
DissectorTable.get("udp.port"):add(25253, upaxos)
