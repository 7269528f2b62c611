"""THE EYES: logs, metrics and the loop's own health. Only what a documented allowlist names leaves through here."""
