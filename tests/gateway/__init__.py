"""The gateway in the test's own loop, between a client without manners and a scripted upstream."""
