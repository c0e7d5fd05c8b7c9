"""Several runs as rows of one table, which of them differ, and the files that hold it."""
