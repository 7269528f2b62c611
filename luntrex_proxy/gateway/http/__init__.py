"""HTTP/1.1 on both sides: connections, framing, the pool, the coarse clock. Decisions live one floor up."""
