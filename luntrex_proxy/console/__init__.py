"""The pages and the JSON API: thin, no SQL. What is decided stands in `control`, the tables in `store`."""
