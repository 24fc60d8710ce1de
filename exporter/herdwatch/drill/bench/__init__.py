"""The benchmark: what a scrape costs, and what the guard costs beside its peers.

`worker` and what it imports run in the peers' environment too, which has their packages and redis, so this module and
those import nothing else.
"""
