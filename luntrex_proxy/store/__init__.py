"""THE TABLES: the only room with SQL, and the files beside them (embedded Postgres, spool). Fits the gateway's ports by shape."""
