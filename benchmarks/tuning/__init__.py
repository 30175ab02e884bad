"""What a fit brings: fitted plans against untuned ones and against other packages, taken apart, carried over, and run many times."""
