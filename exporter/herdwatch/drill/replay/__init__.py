"""The incident, replayed on real servers, with and without the guards."""
