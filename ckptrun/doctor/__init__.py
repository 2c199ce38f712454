"""What is wrong with a job script, and what a cluster means for a chain."""
