"""The figures with controls, for a live kernel."""
