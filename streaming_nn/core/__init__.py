"""The compiled core: the arithmetic of docs/arithmetic.md in C, and what builds and loads it."""
