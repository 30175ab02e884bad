"""What is measured of dpmsolver, and the commands that measure it. Run from the root of the repository."""
