-- A hook that breaks the rule on purpose, for scripts/labs/hook_divergence.lua: it counts the calls of the leader's
-- `request` outside of `st`, and uses the count in `apply`.
local seen = 0

return {
  request = function(value)
    seen = seen + 1
    return value
  end,
  apply = function(st, value)
    st:set("last", value == "probe" and seen or 0)
  end,
}
