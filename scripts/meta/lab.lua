---@meta
-- The API of lab scripts, for editors that run the Lua language server. Made from the code that registers it
-- (upaxos-node/src/lab/api); a test holds it to that. To write it anew:
--   UPAXOS_WRITE=1 cargo test -p upaxos-node --test labs

---A length of time: "150ms", "2s", or a number of seconds.
---@alias Time string|number
---An end of a link: a node, or "clients", which stands for all of them.
---@alias End Node|integer|"clients"

---@class TestOptions
---@field nodes? integer the size of the first group, whose ids are 0 to nodes - 1 [3]
---@field spares? integer how many more nodes may join; their ids follow [0]
---@field hooks? string[] hook scripts of every node; paths beside the lab's script
---@field fast_read? boolean whether untagged reads are fast ones [false]
---@field classic? boolean whether the group speaks the classic grammar [false]
---@field beat? Time the interval between two beats of a node ["100ms"]
---@field start? boolean whether the first group is started before the lab begins [true]
---@field needs? string[] faults without which the lab is skipped: processes, links, corruption, disk
---@field limit? Time how long the lab may take ["300s"]

---@class WaitOptions
---@field within? Time how long it may take ["20s"]

---@class UntilOptions
---@field within? Time how long it may take ["20s"]
---@field what? string what is waited for, for the message of a failure

---@class LeaderOptions
---@field within? Time how long it may take ["20s"]
---@field among? (Node|integer)[] only one of these counts
---@field not_among? (Node|integer)[] none of these counts

---@class LearnedOptions
---@field within? Time how long it may take ["20s"]
---@field nodes? (Node|integer)[] who has to [all that run]

---@class RequestOptions
---@field within? Time after how long without an answer the outcome is unknown ["20s"]

---@class ChangeOptions
---@field within? Time after how long without an answer the outcome is unknown ["20s"]
---@field force? boolean whether to do it although too few members would be alive [false]

---@class Outcome
---@field status "ok"|"refused"|"unknown"|"not_yet" how it ended; who does not know must not guess
---@field instance integer? where it was chosen, or (of a fast read) where the value was written
---@field value string? what was chosen, or read
---@field learned integer? how far who answered had learned
---@field members integer[]? who governs the group
---@field epoch integer? the instance that chose this group
---@field reason string? why it was refused, or why nobody knows
---@field took number seconds

---@class StartOptions
---@field joins? boolean whether it joins the group that runs [false; true for a spare]
---@field replaces? Node|integer in whose place it joins
---@field hooks? string[] its hook scripts, instead of those of the lab
---@field fast_read? boolean whether its untagged reads are fast ones [as the lab says]

---@class JoinOptions
---@field replaces? Node|integer in whose place it joins
---@field hooks? string[] its hook scripts, instead of those of the lab
---@field within? Time how long it may take until it votes ["20s"]

---@class DiskOptions
---@field slow? Time every sync takes so much longer
---@field sync_fails? boolean the next sync fails, as with EIO
---@field full? boolean the next write fails, as on a full disk

---@class Status
---@field state "runs"|"paused"|"down"|"ended" what it does; `ended`: by itself
---@field exit integer? the exit status of one that ended by itself
---@field words string? its last words
---@field stance "leads"|"seeks"|"follows"|"waits"|"learns"|nil what its last beat says
---@field ballot string? the highest ballot that it knows
---@field learned integer its durably learned prefix
---@field heard integer[] whom it hears
---@field diverged string? what it has reported of states that differ

---@class LinkOptions
---@field loss? number the share of datagrams that are lost, 0 to 1
---@field duplicate? number the share that arrive twice
---@field corrupt? number the share of which bytes are damaged
---@field delay? Time added to the way of every datagram
---@field reorder? Time up to so much more for each, so that they overtake one another (jitter)
---@field from? End|End[] only links from there [from all]
---@field to? End|End[] only links to there [to all]

---@class ShapeOptions
---@field center? Node|integer the node that the shape is about [0]
---@field old? Node|integer of `constrained`: who has no link with the center [the node after it]

---@class LoadOptions
---@field clients? integer how many clients ask, each a session of its own [4]
---@field rate? number questions per second, of all together [each asks as soon as it is answered]
---@field mix? table<string, integer> what is asked, by weight: write, read, fast_read, history [{write = 1}]
---@field count? integer how many questions [without end]
---@field lasts? Time for how long it asks [without end]
---@field within? Time after how long without an answer the outcome is unknown ["20s"]
---@field name? string what its values begin with ["load1", "load2", …]

---@class Summary
---@field asked integer how many questions
---@field ok integer how many were carried out, or answered
---@field refused integer how many were refused
---@field unknown integer of how many nobody knows
---@field open integer how many are under way
---@field seconds number how long it has lasted
---@field rate number how many per second were ok
---@field longest_gap number the longest time without an answer that was ok, in seconds
---@field p50 number half of the answers took no longer, in seconds
---@field p99 number 99 of 100 took no longer, in seconds
---@field longest number the longest, in seconds
---@field highest integer the highest instance that was acknowledged

---The group of a lab, its network and its disks. It asks as a client, too.
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

---The nodes of the first group but these.
---@param ... Node|integer
---@return Node[]
function Group:others(...) end

---Another client: a session of its own.
---@return Client
function Group:client() end

---Starts every node of the first group that is down.
function Group:start() end

---Ends all nodes at once between two instructions, as when the power fails.
---@return boolean
function Group:crash() end

---Somebody sends these bytes to all nodes, as one datagram, and waits for nothing: lines by hand.
---@param lines string
function Group:send(lines) end

---What everybody knows, as a failure shows it.
---@return string
function Group:describe() end

---Waits until somebody leads, and says who: of those that say so, the highest ballot.
---@param options? LeaderOptions
---@return Node
function Group:leader(options) end

---Waits until nodes have durably learned an instance.
---@param instance integer
---@param options? LearnedOptions
function Group:wait_learned(instance, options) end

---Judges everything that has happened: ends every fault, starts who is down, waits until all is answered and learned alike, cuts the power of all, and reads every log. Every lab ends with this, unless nothing was done since.
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

---Fast read: the last value written, without an instance if that can be had.
---@param options? RequestOptions
---@return Outcome
function Group:fast_read(options) end

---`fast_read` without waiting.
---@param options? RequestOptions
---@return Future
function Group:fast_read_async(options) end

---What a hook script answers to a question, as a safe read: `ok` with the answer.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Group:query(question, options) end

---`query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Group:query_async(question, options) end

---The same, without an instance if that can be had.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Group:fast_query(question, options) end

---`fast_query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Group:fast_query_async(question, options) end

---What was chosen at an instance: `ok` with the value, or `not_yet`.
---@param instance integer
---@param options? RequestOptions
---@return Outcome
function Group:history(instance, options) end

---`history` without waiting.
---@param instance integer
---@param options? RequestOptions
---@return Future
function Group:history_async(instance, options) end

---Who governs the group.
---@param options? RequestOptions
---@return Outcome
function Group:members(options) end

---`members` without waiting.
---@param options? RequestOptions
---@return Future
function Group:members_async(options) end

---Takes a node out of the group: `ok` with the instance of the change.
---@param node Node|integer
---@param options? ChangeOptions
---@return Outcome
function Group:leave(node, options) end

---`leave` without waiting.
---@param node Node|integer
---@param options? ChangeOptions
---@return Future
function Group:leave_async(node, options) end

---Puts a node that stands ready to join in the place of a member, in one change.
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

---Cuts the links between nodes so that each of these sides hears only itself; who is on no side is alone. Replaces the cuts that there were. Clients reach everybody.
---@param ... (Node|integer)[]
---@return boolean
function Group:partition(...) end

---Cuts the links between nodes into a shape with a name: alone, star, quorum_loss, constrained, chained, ring. Replaces the cuts that there were.
---@param name string
---@param options? ShapeOptions
---@return boolean
function Group:topology(name, options) end

---Cuts the links between these ends and those, in both directions.
---@param a End|End[]
---@param b End|End[]
---@return boolean
function Group:cut(a, b) end

---Cuts the links in that direction only: what `from` says does not reach `to`.
---@param from End|End[]
---@param to End|End[]
---@return boolean
function Group:cut_one_way(from, to) end

---Mends what was cut between these ends and those; how links behave otherwise stays.
---@param a End|End[]
---@param b End|End[]
---@return boolean
function Group:mend(a, b) end

---Cuts all links of a node, those with clients, too.
---@param node Node|integer
---@return boolean
function Group:isolate(node) end

---From now on links behave like this, all of them or those between some ends; cuts stay.
---@param options LinkOptions
---@return boolean
function Group:network(options) end

---Makes every link good: mends what is cut, and nothing is lost, late, twice or damaged any more.
function Group:heal() end

---Begins a load, and comes back at once.
---@param options? LoadOptions
---@return Load
function Group:load(options) end

---So many questions at once, by one client each; waits until all are answered.
---@param count integer
---@param options? LoadOptions
---@return Summary
function Group:burst(count, options) end

---A node of the lab, whether it runs or not.
---@class Node
---@field id integer Its id.
local Node = {}

---Starts it, on the disk that it has, or with a new one.
---@param options? StartOptions
function Node:start(options) end

---Ends it in good order, and waits until it has ended.
---@return boolean
function Node:stop() end

---Ends it between two instructions (kill -9): what was not synced may be lost.
---@return boolean
function Node:crash() end

---It stands still: alive, silent, and unaware of it.
---@return boolean
function Node:pause() end

---The end of a pause.
---@return boolean
function Node:resume() end

---Ends it in good order if it runs, and starts it again.
---@return boolean
function Node:restart() end

---Takes the disk of a node away that is down: it starts with an empty one.
---@return boolean
function Node:wipe() end

---From now on its disk misbehaves; without options that ends.
---@param fault? DiskOptions
---@return boolean
function Node:disk(fault) end

---Starts it as one that joins, and waits until it votes.
---@param options? JoinOptions
function Node:join(options) end

---What is seen of it now: of its protocol state, what its last beat said.
---@return Status
function Node:status() end

---Whether it says that it leads.
---@return boolean
function Node:leads() end

---Waits until it has durably learned an instance.
---@param instance integer
---@param options? WaitOptions
function Node:wait_learned(instance, options) end

---Waits until it has ended by itself, and says how.
---@param options? WaitOptions
---@return Status
function Node:wait_ended(options) end

---A client: a session of its own, whose requests happen exactly once each.
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

---Fast read: the last value written, without an instance if that can be had.
---@param options? RequestOptions
---@return Outcome
function Client:fast_read(options) end

---`fast_read` without waiting.
---@param options? RequestOptions
---@return Future
function Client:fast_read_async(options) end

---What a hook script answers to a question, as a safe read: `ok` with the answer.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Client:query(question, options) end

---`query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Client:query_async(question, options) end

---The same, without an instance if that can be had.
---@param question string
---@param options? RequestOptions
---@return Outcome
function Client:fast_query(question, options) end

---`fast_query` without waiting.
---@param question string
---@param options? RequestOptions
---@return Future
function Client:fast_query_async(question, options) end

---What was chosen at an instance: `ok` with the value, or `not_yet`.
---@param instance integer
---@param options? RequestOptions
---@return Outcome
function Client:history(instance, options) end

---`history` without waiting.
---@param instance integer
---@param options? RequestOptions
---@return Future
function Client:history_async(instance, options) end

---Who governs the group.
---@param options? RequestOptions
---@return Outcome
function Client:members(options) end

---`members` without waiting.
---@param options? RequestOptions
---@return Future
function Client:members_async(options) end

---Takes a node out of the group: `ok` with the instance of the change.
---@param node Node|integer
---@param options? ChangeOptions
---@return Outcome
function Client:leave(node, options) end

---`leave` without waiting.
---@param node Node|integer
---@param options? ChangeOptions
---@return Future
function Client:leave_async(node, options) end

---Puts a node that stands ready to join in the place of a member, in one change.
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

---A question under way.
---@class Future
---@field done boolean Whether it has ended.
local Future = {}

---Waits until the question has ended. Can be called again, and gives the same.
---@return Outcome
function Future:await() end

---Clients that ask and ask, while the script does other things.
---@class Load
---@field done boolean Whether it asks nothing more, and everything is answered.
local Load = {}

---Its figures by now.
---@return Summary
function Load:summary() end

---No more questions: waits until all are answered.
---@return Summary
function Load:stop() end

---Waits until it is done: for a load that has a `count`, or that `lasts` so long.
---@return Summary
function Load:await() end

---A function that goes on beside the others. If it fails, the lab fails.
---@class Task
---@field done boolean Whether it has ended.
local Task = {}

---Waits until it has ended, and gives what it has returned.
---@return any
function Task:await() end

---Ends it where it waits.
function Task:cancel() end

---What is expected of a value; of a function, of what it returns.
---@class Expectation
local Expectation = {}

---It may take so long until it holds; needs a function.
---@param time Time
---@return Expectation
function Expectation:within(time) end

---It is this; tables by what is in them.
---@param expected any
function Expectation:equals(expected) end

---It is not this.
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

---It is a text that has this in it, or a list that has it as an element.
---@param part any
function Expectation:contains(part) end

---It is a text that fits this pattern of Lua's.
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
---@field world string The world that the lab is played in: sim, raw or udp.
---@field seed integer Where all chance comes from.
lab = {}

---Declares a lab: a group of its own, and what happens to it.
---@param name string
---@param options TestOptions
---@param body fun(g: Group)
function lab.test(name, options, body) end

---The seconds since the lab began, on the clock of its world.
---@return number
function lab.now() end

---Lets time pass; everything else goes on.
---@param time Time
function lab.sleep(time) end

---Waits until the function returns something true, and returns that.
---@param condition fun(): any
---@param options? UntilOptions
---@return any
function lab.wait_until(condition, options) end

---Begins a task: the function goes on beside everything else, and ends with the lab.
---@param body fun(...: any): any
---@param ... any
---@return Task
function lab.spawn(body, ...) end

---Begins a task that calls the function again and again, with so much time between.
---@param time Time
---@param body fun()
---@return Task
function lab.every(time, body) end

---Prints a line; while seeds are swept, and with --json, nothing is printed.
---@param ... any
function lab.say(...) end

---One step of a story: does what the function does, and prints the name, the text that it returns, and how long it took (or the seconds that it returns as well).
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

---Begins an expectation. If `got` is a function, it is called, again and again with `:within(…)`. `what` says in a failure what it is about.
---@param got any
---@param what? string
---@return Expectation
function expect(got, what) end
