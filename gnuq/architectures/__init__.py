"""Which classes of the transformers package gnuq is exact on: tiny random models of every one."""
