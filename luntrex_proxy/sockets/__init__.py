"""THE DOORS: opens what both planes listen on: TCP, Unix and inherited sockets, and TLS on them."""
