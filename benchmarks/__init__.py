"""Benchmarks that users can run: `python -m benchmarks.run` (side by side), `python -m benchmarks.slopes` (growth)."""
