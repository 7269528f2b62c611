"""WHAT PEOPLE DECIDE: the control plane. For now its probes and the metrics; no SQL, no HTML."""
