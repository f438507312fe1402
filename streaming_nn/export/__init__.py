"""A version in other libraries' formats."""
