"""The whole daemon, from outside: real SDKs, scripted and simulated and real upstreams, its own Postgres."""
