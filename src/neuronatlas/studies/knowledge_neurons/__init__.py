"""The experiments of Dai et al. (2022) end to end, and those that a critical reader misses there."""
