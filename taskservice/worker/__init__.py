"""The worker's room: claim, run, classify, settle."""
