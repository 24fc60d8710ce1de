"""The incident, replayed on real servers; the demo is its first scenario."""
