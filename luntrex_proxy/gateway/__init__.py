"""THE WAY: what happens to one request, station by station (`pipeline.py`). No SQL and no log in here."""
