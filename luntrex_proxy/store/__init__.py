"""THE TABLES: the only SQL, and the files beside it (embedded Postgres, spool). Fits the gateway's ports by shape."""
