"""What a cause means here: the decoded before and after, and whether it looks like an update."""
