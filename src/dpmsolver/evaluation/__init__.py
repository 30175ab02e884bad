"""How good samples are: reference solutions, distances between samples, and the measurements that compare solvers."""
