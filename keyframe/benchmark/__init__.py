"""What the project costs, as figures against a named baseline of the same run."""
