"""Reference posteriors and approximations of them, one algorithm a file."""
