---@meta
-- The API of hook scripts (`upaxos-node --script FILE`), for editors that run the Lua language server. A test holds
-- it to the code that registers it (upaxos-node/src/script).
--
-- A hook script returns one table: see `Hooks`.

---What `st` keeps under a key.
---@alias Scalar boolean|number|string

---What a hook script returns.
---@class Hooks
---@field request? fun(value: string, req: About): string?, string? before a value is proposed: the value to use, or nil and why it is refused
---@field apply? fun(st: State, value: string, entry: About) on every node, in the order of instances; pure
---@field read? fun(st: State, at: About): string?, string? words what is read; answers `query`: the answer, or nil and why there is none
---@field on_learn? fun(value: string, entry: About) told after the fact; may log
---@field on_role? fun(role: string, leader: integer?, ballot: string) told after the fact; may log

---What a hook is told beside the value. It cannot be changed.
---@class About
---@field instance integer? where the value was chosen; of a read, up to where it sees
---@field client string? who asked, if the request is tagged
---@field seq number? which of its requests it is
---@field last string? of a read: the last value that a user wrote
---@field last_instance integer? of a read: where that stands
---@field question string? of a query: what was asked

---The state of a script: a sorted map, the same on every node after the same instance. Only there while its hook
---runs; `read` cannot change it.
---@class State
local State = {}

---What stands under a key.
---@param key string
---@return Scalar?
function State:get(key) end

---Puts a value under a key; nil takes it away.
---@param key string
---@param value Scalar?
function State:set(key, value) end

---Takes away what stands under a key; true if something did.
---@param key string
---@return boolean
function State:del(key) end

---Whether something stands under a key.
---@param key string
---@return boolean
function State:has(key) end

---Adds to the number under a key (0 if there is none), and returns it.
---@param key string
---@param number number
---@return number
function State:add(key, number) end

---How many keys there are.
---@return number
function State:len() end

---Keys and values from `first` to `last`, both included, in order of bytes; both may be nil.
---@param first string?
---@param last string?
---@return fun(): string?, Scalar?
function State:range(first, last) end

---All keys that begin so, and their values, in order.
---@param start string
---@return fun(): string?, Scalar?
function State:prefix(start) end

---The log of the node: only for `on_learn` and `on_role`, since the others are pure.
---@class log
log = {}

---@param text string
function log.debug(text) end

---@param text string
function log.info(text) end

---@param text string
function log.warn(text) end

---@param text string
function log.error(text) end
