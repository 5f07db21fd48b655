---@meta
-- The API of hook scripts (`upaxos-node --script FILE`), for editors that run the Lua language server. A test compares
-- it with the code that registers it (crates/script/src).
--
-- A hook script returns one table: see `Hooks`.

---The types of the values in `st`.
---@alias Scalar boolean|number|string

---The table that a hook script returns.
---@class Hooks
---@field request? fun(value: string, req: About): string?, string? called before a value is proposed: the value to use, or nil and the reason of the refusal
---@field apply? fun(st: State, value: string, entry: About) called on every node, in the order of instances; pure
---@field read? fun(st: State, at: About): string?, string? formats reads and answers `query`: the answer, or nil and the reason
---@field on_learn? fun(value: string, entry: About) called after a value was learned; may log
---@field on_role? fun(role: string, leader: integer?, ballot: string) called after the node's role has changed; may log

---The context of a hook's call. It cannot be changed.
---@class About
---@field instance integer? the instance that chose the value; for a read: the last instance that it covers
---@field client string? the client that sent the request, if the request is tagged
---@field seq number? the request's number among those of its client
---@field last string? for a read: the last value that a user wrote
---@field last_instance integer? for a read: the instance of that value
---@field question string? for a query: the question

---The state of a script: a sorted map, the same on every node after the same instance. Usable only while its hook runs.
---`read` cannot change it.
---@class State
local State = {}

---The value of a key, or nil.
---@param key string
---@return Scalar?
function State:get(key) end

---Sets the value of a key; nil removes the key.
---@param key string
---@param value Scalar?
function State:set(key, value) end

---Removes a key; returns true if it existed.
---@param key string
---@return boolean
function State:del(key) end

---Whether a key exists.
---@param key string
---@return boolean
function State:has(key) end

---Adds to the number of a key (0 if there is none), and returns the sum.
---@param key string
---@param number number
---@return number
function State:add(key, number) end

---The number of keys.
---@return number
function State:len() end

---Keys and values from `first` to `last`, both included, in order of bytes; both may be nil.
---@param first string?
---@param last string?
---@return fun(): string?, Scalar?
function State:range(first, last) end

---All keys with this prefix, and their values, in order.
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
