"""The interfaces of other projects, unchanged: a script only changes its import, and runs on plans and denoisers."""
