"""Uncertainty from gradient norms: the computation behind the book.

Start with `gnuq.estimators` (the paper's equations, one function each) and `gnuq.gradnorm`
(exact per-example squared gradient norms in one backward pass).
"""
