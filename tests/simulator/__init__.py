"""The simulated provider, asked directly."""
