"""One module a target: `check(data)` raises where the code under test does what it must not, `seeds()` are inputs to begin with."""
