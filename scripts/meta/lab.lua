---@meta
-- The API of lab scripts, for editors that run the Lua language server. Made from the code that registers it
-- (crates/lab/src/api); a test holds it to that. To write it anew:
--   UPAXOS_WRITE=1 cargo test -p upaxos-node --test labs

---A length of time: "150ms", "2s", or a number of seconds.
---@alias Time string|number
---An end of a link: a node, or "clients", which stands for all of them.
---@alias End Node|integer|"clients"

---@class TestOptions
---@field nodes? integer the size of the first group, whose ids are 0 to nodes - 1 [3]
---@field spares? integer how many more nodes may join; their ids follow [0]
---@field hooks? string[] hook scripts of every node; paths are relative to the lab's script
---@field fast_read? boolean whether untagged reads are fast reads [false]
---@field classic? boolean whether the group speaks the classic grammar [false]
---@field beat? Time the interval between two beats of a node ["100ms"]
---@field start? boolean whether the first group is started before the lab begins [true]
---@field needs? string[] faults without which the lab is skipped: processes, links, corruption, disk
---@field limit? Time how long the lab may take ["300s"]

---@class WaitOptions
---@field within? Time how long it may take ["20s"]

---@class UntilOptions
---@field within? Time how long it may take ["20s"]
---@field what? string the awaited condition, for the message of a failure

---@class LeaderOptions
---@field within? Time how long it may take ["20s"]
---@field among? (Node|integer)[] accept only one of these nodes
---@field not_among? (Node|integer)[] accept none of these nodes

---@class LearnedOptions
---@field within? Time how long it may take ["20s"]
---@field nodes? (Node|integer)[] the nodes to wait for [all that run]

---@class RequestOptions
---@field within? Time after how long without an answer the outcome is unknown ["20s"]

---@class ChangeOptions
---@field within? Time after how long without an answer the outcome is unknown ["20s"]
---@field force? boolean whether to change the group even if too few members would be alive [false]

---@class Outcome
---@field status "ok"|"refused"|"unknown"|"not_yet" how it ended; `unknown` may still turn out either way
---@field instance integer? where it was chosen, or (for a fast read) where the value was written
---@field value string? the chosen or read value
---@field learned integer? how far the answering node had learned
---@field members integer[]? the members of the group
---@field epoch integer? the instance that chose this group
---@field reason string? why it was refused, or why the outcome is unknown
---@field took number the latency, in seconds

---@class StartOptions
---@field joins? boolean whether it joins the running group [false; true for a spare]
---@field replaces? Node|integer the member that it replaces
---@field hooks? string[] its hook scripts, instead of those of the lab
---@field fast_read? boolean whether its untagged reads are fast reads [the lab's option]

---@class JoinOptions
---@field replaces? Node|integer the member that it replaces
---@field hooks? string[] its hook scripts, instead of those of the lab
---@field within? Time how long it may take until it votes ["20s"]

---@class DiskOptions
---@field slow? Time every sync takes this much longer
---@field sync_fails? boolean the next sync fails, as with EIO
---@field full? boolean the next write fails, as on a full disk

---@class Status
---@field state "runs"|"paused"|"down"|"ended" the state of its process; `ended`: by itself
---@field exit integer? its exit status, if it ended by itself
---@field words string? its last words
---@field stance "leads"|"seeks"|"follows"|"waits"|"learns"|nil its stance in its last beat
---@field ballot string? the highest ballot that it knows
---@field learned integer its durably learned prefix
---@field heard integer[] the nodes that it hears
---@field diverged string? its report of states that differ

---@class LinkOptions
---@field loss? number the share of datagrams that are lost, 0 to 1
---@field duplicate? number the share that arrive twice
---@field corrupt? number the share that arrive with damaged bytes
---@field delay? Time a fixed delay for every datagram
---@field reorder? Time the maximum extra delay of each, so that datagrams overtake each other (jitter)
---@field from? End|End[] only links from these ends [all]
---@field to? End|End[] only links to these ends [all]

---@class ShapeOptions
---@field center? Node|integer the node at the center of the shape [0]
---@field old? Node|integer for `constrained`: the node without a link to the center [the node after it]

---@class LoadOptions
---@field clients? integer the number of clients, each a session of its own [4]
---@field rate? number requests per second, of all clients together [each sends its next request after an answer]
---@field mix? table<string, integer> kinds of requests, by weight: write, read, fast_read, history [{write = 1}]
---@field count? integer the maximum number of requests [no limit]
---@field lasts? Time how long it sends requests [no limit]
---@field within? Time after how long without an answer the outcome is unknown ["20s"]
---@field name? string the prefix of its values ["load1", "load2", …]

---@class Summary
---@field asked integer the number of requests
---@field ok integer how many were carried out or answered
---@field refused integer how many were refused
---@field unknown integer how many have an unknown outcome
---@field open integer how many are in flight
---@field seconds number how long it has lasted
---@field rate number how many per second were ok
---@field longest_gap number the longest time without an answer `ok`, in seconds
---@field p50 number the median latency, in seconds
---@field p99 number the 99th percentile of the latency, in seconds
---@field longest number the maximum latency, in seconds
---@field highest integer the highest acknowledged instance

---The group of a lab, its network and its disks. It is a client, too.
---@class Group
---@field size integer The size of the first group.
local Group = {}

---The node with that id.
---@param id integer
---@return Node
function Group:node(id) end

---The nodes of the first group, by id: a list, so node 0 comes first.
---@return Node[]
function Group:nodes() end

---The nodes of the first group except these.
---@param ... Node|integer
---@return Node[]
function Group:others(...) end

---A new client: a session of its own.
---@return Client
function Group:client() end

---Starts every node of the first group that is down.
function Group:start() end

---Ends all nodes at once between two instructions, as in a power failure.
---@return boolean
function Group:crash() end

---Sends these bytes to all nodes, as one datagram, and waits for no answer: lines by hand.
---@param lines string
function Group:send(lines) end

---What is known of all nodes, as a failure shows it.
---@return string
function Group:describe() end

---Waits for a leader and returns it: of the nodes that claim to lead, the one with the highest ballot.
---@param options? LeaderOptions
---@return Node
function Group:leader(options) end

---Waits until nodes have durably learned an instance.
---@param instance integer
---@param options? LearnedOptions
function Group:wait_learned(instance, options) end

---Judges everything so far: ends every fault, starts the nodes that are down, waits until every request is answered and all nodes have learned the same, cuts the power of all, and reads every log. Every lab ends with a check, unless nothing was done since the last one.
---@param options? WaitOptions
function Group:check(options) end

---Writes a value, exactly once: `ok` with the instance at which it is chosen.
---@param value string
---@param options? RequestOptions
---@return Outcome
function Group:write(value, options) end

---`write` without waiting.
---@param value string
---@param options? RequestOptions
---@return Future
function Group:write_async(value, options) end

---Safe read: the last value written, through an instance of its own.
---@param options? RequestOptions
---@return Outcome
function Group:read(options) end

---`read` without waiting.
---@param options? RequestOptions
---@return Future
function Group:read_async(options) end

---Fast read: the last value written, without an instance where that is possible.
---@param options? RequestOptions
---@return Outcome
function Group:fast_read(options) end

---`fast_read` without waiting.
---@param options? RequestOptions
---@return Future
function Group:fast_read_async(options) end

---A hook script's answer to a question, as a safe read: `ok` with the answer.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Group:query(question, options) end

---`query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Group:query_async(question, options) end

---The same, without an instance where that is possible.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Group:fast_query(question, options) end

---`fast_query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Group:fast_query_async(question, options) end

---The value chosen at an instance: `ok` with the value, or `not_yet`.
---@param instance integer
---@param options? RequestOptions
---@return Outcome
function Group:history(instance, options) end

---`history` without waiting.
---@param instance integer
---@param options? RequestOptions
---@return Future
function Group:history_async(instance, options) end

---The members of the group.
---@param options? RequestOptions
---@return Outcome
function Group:members(options) end

---`members` without waiting.
---@param options? RequestOptions
---@return Future
function Group:members_async(options) end

---Removes a node from the group: `ok` with the instance of the change.
---@param node Node|integer
---@param options? ChangeOptions
---@return Outcome
function Group:leave(node, options) end

---`leave` without waiting.
---@param node Node|integer
---@param options? ChangeOptions
---@return Future
function Group:leave_async(node, options) end

---Replaces a member with a node that is ready to join, in one change.
---@param old Node|integer
---@param new Node|integer
---@param options? ChangeOptions
---@return Outcome
function Group:replace(old, new, options) end

---`replace` without waiting.
---@param old Node|integer
---@param new Node|integer
---@param options? ChangeOptions
---@return Future
function Group:replace_async(old, new, options) end

---Cuts the links between nodes so that each of these sides hears only itself. A node on no side is alone. Replaces earlier cuts. Clients still reach all nodes.
---@param ... (Node|integer)[]
---@return boolean
function Group:partition(...) end

---Cuts the links between nodes into a named shape: alone, star, quorum_loss, constrained, chained, ring. Replaces earlier cuts.
---@param name string
---@param options? ShapeOptions
---@return boolean
function Group:topology(name, options) end

---Cuts the links between the ends `a` and the ends `b`, in both directions.
---@param a End|End[]
---@param b End|End[]
---@return boolean
function Group:cut(a, b) end

---Cuts the links in one direction only: datagrams of `from` do not reach `to`.
---@param from End|End[]
---@param to End|End[]
---@return boolean
function Group:cut_one_way(from, to) end

---Ends the cuts between the ends `a` and the ends `b`. Other faults of these links remain.
---@param a End|End[]
---@param b End|End[]
---@return boolean
function Group:mend(a, b) end

---Cuts all links of a node, including those with clients.
---@param node Node|integer
---@return boolean
function Group:isolate(node) end

---Sets how links behave from now on: all of them, or those between some ends. Cuts remain.
---@param options LinkOptions
---@return boolean
function Group:network(options) end

---Makes every link good: ends cuts, loss, delays, duplicates and damage.
function Group:heal() end

---Starts a load, and returns at once.
---@param options? LoadOptions
---@return Load
function Group:load(options) end

---Sends `count` requests at once, by one client each, and waits until all have ended.
---@param count integer
---@param options? LoadOptions
---@return Summary
function Group:burst(count, options) end

---A node of the lab, whether it runs or not.
---@class Node
---@field id integer Its id.
local Node = {}

---Starts it on its disk, or on a new one if it has none.
---@param options? StartOptions
function Node:start(options) end

---Shuts it down cleanly, and waits until it has ended.
---@return boolean
function Node:stop() end

---Ends it between two instructions (kill -9). Writes that it had not synced may be lost.
---@return boolean
function Node:crash() end

---Pauses it: it is alive and silent, and does not notice the pause.
---@return boolean
function Node:pause() end

---Ends a pause.
---@return boolean
function Node:resume() end

---Shuts it down cleanly if it runs, and starts it again.
---@return boolean
function Node:restart() end

---Removes its disk while it is down: it will start with an empty one.
---@return boolean
function Node:wipe() end

---Makes its disk fail in this way from now on. Without options the fault ends.
---@param fault? DiskOptions
---@return boolean
function Node:disk(fault) end

---Starts it to join the group, and waits until it votes.
---@param options? JoinOptions
function Node:join(options) end

---Its status now. The protocol state comes from its last beat.
---@return Status
function Node:status() end

---Whether it claims to lead.
---@return boolean
function Node:leads() end

---Waits until it has durably learned an instance.
---@param instance integer
---@param options? WaitOptions
function Node:wait_learned(instance, options) end

---Waits until it has ended by itself, and returns its status.
---@param options? WaitOptions
---@return Status
function Node:wait_ended(options) end

---A client: a session of its own, whose requests are carried out exactly once each.
---@class Client
local Client = {}

---Writes a value, exactly once: `ok` with the instance at which it is chosen.
---@param value string
---@param options? RequestOptions
---@return Outcome
function Client:write(value, options) end

---`write` without waiting.
---@param value string
---@param options? RequestOptions
---@return Future
function Client:write_async(value, options) end

---Safe read: the last value written, through an instance of its own.
---@param options? RequestOptions
---@return Outcome
function Client:read(options) end

---`read` without waiting.
---@param options? RequestOptions
---@return Future
function Client:read_async(options) end

---Fast read: the last value written, without an instance where that is possible.
---@param options? RequestOptions
---@return Outcome
function Client:fast_read(options) end

---`fast_read` without waiting.
---@param options? RequestOptions
---@return Future
function Client:fast_read_async(options) end

---A hook script's answer to a question, as a safe read: `ok` with the answer.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Client:query(question, options) end

---`query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Client:query_async(question, options) end

---The same, without an instance where that is possible.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Client:fast_query(question, options) end

---`fast_query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Client:fast_query_async(question, options) end

---The value chosen at an instance: `ok` with the value, or `not_yet`.
---@param instance integer
---@param options? RequestOptions
---@return Outcome
function Client:history(instance, options) end

---`history` without waiting.
---@param instance integer
---@param options? RequestOptions
---@return Future
function Client:history_async(instance, options) end

---The members of the group.
---@param options? RequestOptions
---@return Outcome
function Client:members(options) end

---`members` without waiting.
---@param options? RequestOptions
---@return Future
function Client:members_async(options) end

---Removes a node from the group: `ok` with the instance of the change.
---@param node Node|integer
---@param options? ChangeOptions
---@return Outcome
function Client:leave(node, options) end

---`leave` without waiting.
---@param node Node|integer
---@param options? ChangeOptions
---@return Future
function Client:leave_async(node, options) end

---Replaces a member with a node that is ready to join, in one change.
---@param old Node|integer
---@param new Node|integer
---@param options? ChangeOptions
---@return Outcome
function Client:replace(old, new, options) end

---`replace` without waiting.
---@param old Node|integer
---@param new Node|integer
---@param options? ChangeOptions
---@return Future
function Client:replace_async(old, new, options) end

---A request in flight.
---@class Future
---@field done boolean Whether it has ended.
local Future = {}

---Waits until the request has ended. Further calls return the same outcome.
---@return Outcome
function Future:await() end

---Clients that send requests while the script does other things.
---@class Load
---@field done boolean Whether it sends no more requests, and every request has ended.
local Load = {}

---Its figures so far.
---@return Summary
function Load:summary() end

---Stops new requests, and waits until all have ended.
---@return Summary
function Load:stop() end

---Waits until it is done: for a load with `count` or `lasts`.
---@return Summary
function Load:await() end

---A function that runs beside the others. If it fails, the lab fails.
---@class Task
---@field done boolean Whether it has ended.
local Task = {}

---Waits until it has ended, and returns its result.
---@return any
function Task:await() end

---Ends it at its current wait.
function Task:cancel() end

---A condition for a value, or for the result of a function.
---@class Expectation
local Expectation = {}

---Allows this much time until the condition holds. Needs a function.
---@param time Time
---@return Expectation
function Expectation:within(time) end

---It equals this. Tables are compared by their contents.
---@param expected any
function Expectation:equals(expected) end

---It does not equal this.
---@param from any
function Expectation:differs(from) end

---It is neither false nor nil.
function Expectation:is_true() end

---It is false or nil.
function Expectation:is_false() end

---It is nil.
function Expectation:is_nil() end

---It is one of these.
---@param list any[]
function Expectation:one_of(list) end

---It is a number on that side of the bound.
---@param bound number
function Expectation:at_least(bound) end

---It is a number on that side of the bound.
---@param bound number
function Expectation:at_most(bound) end

---It is a number on that side of the bound.
---@param bound number
function Expectation:above(bound) end

---It is a number on that side of the bound.
---@param bound number
function Expectation:below(bound) end

---It is a text that contains this, or a list that has it as an element.
---@param part any
function Expectation:contains(part) end

---It is a text that matches this Lua pattern.
---@param pattern string
function Expectation:matches(pattern) end

---It is an outcome with this status.
function Expectation:ok() end

---It is an outcome with this status.
function Expectation:refused() end

---It is an outcome with this status.
function Expectation:unknown() end

---Labs: what happens to a group, and what must hold.
---@class lab
---@field world string The world of the lab: sim, raw or udp.
---@field seed integer The seed of all chance.
lab = {}

---Declares a lab: a group of its own, and what happens to it.
---@param name string
---@param options TestOptions
---@param body fun(g: Group)
function lab.test(name, options, body) end

---The seconds since the lab began, on the clock of its world.
---@return number
function lab.now() end

---Waits; everything else continues.
---@param time Time
function lab.sleep(time) end

---Waits until the function returns a true value, and returns that value.
---@param condition fun(): any
---@param options? UntilOptions
---@return any
function lab.wait_until(condition, options) end

---Starts a task: the function runs beside everything else, and ends with the lab.
---@param body fun(...: any): any
---@param ... any
---@return Task
function lab.spawn(body, ...) end

---Starts a task that calls the function again and again, with this much time between two calls.
---@param time Time
---@param body fun()
---@return Task
function lab.every(time, body) end

---Prints a line. In a sweep of seeds, and with --json, nothing is printed.
---@param ... any
function lab.say(...) end

---One step of a story: calls the function, and prints the name, the text that the function returns, and how long it took (or the seconds that it also returns).
---@param name string
---@param body fun(): string
---@param number? any
function lab.step(name, body, number) end

---Ends the lab here as skipped, with the reason.
---@param reason string
function lab.skip(reason) end

---Fails the lab.
---@param why string
function lab.fail(why) end

---Starts an expectation. If `got` is a function, it is called, repeatedly with `:within(…)`. `what` names the value in a failure.
---@param got any
---@param what? string
---@return Expectation
function expect(got, what) end
