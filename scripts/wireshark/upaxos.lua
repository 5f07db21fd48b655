-- Wireshark dissector for upaxos: one subtree per line of a datagram.
--
-- Use: tshark -X lua_script:scripts/wireshark/upaxos.lua -i any 'ip proto 253'
-- or put the file into Wireshark's folder of personal Lua plugins.
-- Filters: upaxos.verb == "Write", upaxos.instance == 7, upaxos.from == 2, upaxos.value contains "one".
--
-- The grammar is the table in README.md, "The wire"; a test holds the verbs together.

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
  epoch = ProtoField.uint64("upaxos.epoch", "Epoch"),
  nonce = ProtoField.uint64("upaxos.nonce", "Nonce of a round of fast reads"),
  mark = ProtoField.uint64("upaxos.mark", "Mark: nothing above was accepted"),
  node = ProtoField.uint32("upaxos.node", "Node"),
  n = ProtoField.uint32("upaxos.n", "Size of the first group"),
  incarnation = ProtoField.uint64("upaxos.incarnation", "Incarnation"),
  start = ProtoField.uint64("upaxos.start", "Start"),
  boot = ProtoField.uint64("upaxos.boot", "Boot"),
  stance = ProtoField.string("upaxos.stance", "Stance"),
  heard = ProtoField.string("upaxos.heard", "Hears"),
  every = ProtoField.uint64("upaxos.every", "Milliseconds between two beats"),
  words = ProtoField.uint64("upaxos.words", "Fingerprint of a request's words"),
  digest = ProtoField.uint64("upaxos.digest", "Digest of what a script computed"),
  chain = ProtoField.string("upaxos.chain", "Digest of what was learned"),
  source = ProtoField.uint64("upaxos.source", "Source of a script"),
  script = ProtoField.string("upaxos.script", "Script"),
  value = ProtoField.string("upaxos.value", "Value"),
  group = ProtoField.string("upaxos.group", "Identity of the group"),
  name = ProtoField.string("upaxos.name", "Name of the group"),
  malformed = ProtoField.string("upaxos.malformed", "Not of the grammar"),
}
upaxos.fields = f

-- The fields behind each verb; the last may be the rest of the line.
local client_forms = {
  Request = { "instance", "value" },
  Submit = { "client", "seq", "floor", "value" },
  Read = { "client", "seq", "floor" },
  FastRead = { "client", "seq", "floor" },
  Query = { "client", "seq", "floor", "value" },
  FastQuery = { "client", "seq", "floor", "value" },
  For = { "group", "name" },
  members = {},
  leave = { "node", "value" },
  replace = { "node", "value" },
  Change = { "client", "seq", "floor", "value" },
  quit = {}, exit = {}, bye = {},
  ["&"] = { "value" },
}
local node_forms = {
  From = { "incarnation", "group", "name" },
  Propose = { "instance", "ballot", "value" },
  ProposeAll = { "instance", "ballot" },
  Promise = { "instance", "ballot", "accepted", "value" },
  PromiseNone = { "instance", "last", "ballot", "learned" },
  Write = { "instance", "ballot", "value" },
  WriteTags = { "instance", "last", "ballot", "value" },
  Fetch = { "instance", "last", "ballot" },
  Accept = { "instance", "ballot", "value" },
  Accepts = { "instance", "last", "ballot" },
  NACK = { "instance", "ballot" },
  Written = { "instance", "value" },
  Chosen = { "instance", "last", "ballot" },
  Gap = { "instance", "last" },
  AskMark = { "epoch", "nonce" },
  Mark = { "epoch", "nonce", "mark" },
  Join = { "learned" },
  JoinFor = { "learned", "node" },
  Members = { "instance", "learned", "heard" },
  OK = { "instance", "value" },
  Done = { "instance", "last", "client", "seq" },
  Answer = { "instance", "client", "seq", "value" },
  Value = { "instance", "learned", "client", "seq", "value" },
  Reply = { "learned", "client", "seq", "value" },
  NotYet = { "instance", "learned" },
  Refused = { "client", "seq", "value" },
  Busy = { "client", "seq", "pause" },
  Unknown = { "client", "seq" },
  Forgotten = { "client", "seq", "begin" },
  Error = { "value" },
  Relay = { "value" },
  Dropped = { "words" },
  AskDigest = { "instance", "script" },
  Digest = { "instance", "digest", "source", "script" },
  AskChain = { "instance" },
  Chain = { "instance", "chain" },
  Differs = { "instance", "node" },
  Beat = { "n", "incarnation", "start", "boot", "ballot", "learned", "stance", "heard" },
  Pace = { "every", "ballot" },
  Register = { "n", "incarnation", "start", "boot" },
  Registered = { "node", "boot" },
  Barred = { "node", "boot", "incarnation", "start" },
}

local numeric = {
  instance = true, learned = true, client = true, seq = true, floor = true, begin = true,
  epoch = true, nonce = true, mark = true, node = true, n = true, incarnation = true, start = true, boot = true,
  every = true, words = true, digest = true, source = true,
}

-- One field: where it begins in the line, from 1, and its text; the rest of the line for a value.
local function field_at(line, at, name)
  if at > #line + 1 then return nil end
  if name == "value" then return line:sub(at), #line + 2 end
  local space = line:find(" ", at, true) or #line + 1
  return line:sub(at, space - 1), space + 1
end

local function add(tree, name, range, text)
  if numeric[name] then
    local ok, number = pcall(UInt64, text)
    if not text:match("^%d+$") or not ok then
      tree:add(f.malformed, range, name .. ": " .. text)
      return
    end
    if name == "node" or name == "n" then number = tonumber(text) end
    tree:add(f[name], range, number)
  else
    tree:add(f[name], range, text)
  end
end

local function dissect_line(range, tree)
  local line = range:string(ENC_UTF_8)
  local first, at = field_at(line, 1)
  local form, verb = client_forms[first], first
  local branch = tree:add(upaxos, range, line)
  if not form and first:match("^%d+$") then
    branch:add(f.from, range(0, #first), tonumber(first))
    local verb_at = at
    verb, at = field_at(line, at)
    form = verb and node_forms[verb]
    if verb then branch:add(f.verb, range(verb_at - 1, #verb), verb) end
  elseif form then
    branch:add(f.verb, range(0, #first), first)
  end
  if not form then
    branch:add(f.malformed, range, line)
    return "?"
  end
  for _, name in ipairs(form) do
    local text, after = field_at(line, at, name)
    if not text then break end
    if at <= range:len() then
      add(branch, name, range(at - 1, math.min(#text, range:len() - at + 1)), text)
    end
    at = after
  end
  return verb
end

function upaxos.dissector(buffer, packet, root)
  packet.cols.protocol = "upaxos"
  local tree = root:add(upaxos, buffer())
  local verbs, count, at = {}, {}, 0
  local bytes = buffer:bytes()
  while at < buffer:len() do
    local stop = at
    while stop < buffer:len() and bytes:get_index(stop) ~= 10 do stop = stop + 1 end
    if stop > at then
      local verb = dissect_line(buffer(at, stop - at), tree)
      if not count[verb] then verbs[#verbs + 1] = verb end
      count[verb] = (count[verb] or 0) + 1
    end
    at = stop + 1
  end
  for place, verb in ipairs(verbs) do
    if count[verb] > 1 then verbs[place] = verb .. " x" .. count[verb] end
  end
  packet.cols.info = table.concat(verbs, ", ")
end

DissectorTable.get("ip.proto"):add(253, upaxos)
DissectorTable.get("udp.port"):add(25253, upaxos)
