"""Programs that feed topics: datasets, files, generators with drift."""
