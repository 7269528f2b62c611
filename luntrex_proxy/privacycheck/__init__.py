"""`privacy-check`: say secrets to a daemon of this installation in every way, then look for them wherever it writes.

daemon.py    a daemon beside the installation's own, on its database, with upstreams that answer and that fail
saying.py    everything that is said to it
searching.py the places that are looked through, and those that cannot be
checking.py  the order of it, and what comes of it
"""
