"""THE RULES: pure decisions. No await, clock, randomness, log or file lives here; `now` comes in as an argument."""
