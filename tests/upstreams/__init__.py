"""Servers the tests put in the provider's place: scripted, hostile, recording. They run in a thread of their own."""
