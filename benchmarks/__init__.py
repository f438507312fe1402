"""What it is worth: each module here is a program that measures, prints a table, and one JSON line."""
