-- A hook that breaks the rule on purpose, for scripts/labs/hook_divergence.lua: it remembers outside of `st` what
-- only the leader's `request` has seen, and lets `apply` use it.
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
