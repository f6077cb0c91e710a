"""Question-answering experiments: the questions, and what the models make of them."""
