"""Job scripts that are made for a framework and a cluster: the table, what may be set, and the text."""
