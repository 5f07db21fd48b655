-- A formatter of safe reads: it formats the answer to `Request 0`.
--
--   upaxos-node -n 3 -i 0 --script scripts/hooks/format.lua    (the same on every node)
--
--   upaxos-send --wait Request 0 one
--   upaxos-send --wait Request 0                               OK 2 safe read one (3 bytes, written at 1)
--   upaxos-send --wait --fast Request 0                        Value 1 2 one (3 bytes, written at 1)
--   upaxos-send --wait query upper                             OK 3 safe read ONE
--
-- It keeps no state: it receives the last value that a user wrote, and its instance.

local function read(_, at)
  if at.question == "upper" then return (at.last or ""):upper() end
  if at.question then return nil, "the only question is: upper" end
  if not at.last then return "nothing was written yet" end
  return string.format("%s (%d bytes, written at %d)", at.last, #at.last, at.last_instance)
end

return { read = read }
