"""A local web page that shows how models learn, live and at any earlier version."""
