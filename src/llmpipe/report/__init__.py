"""What is shown meanwhile and afterwards: progress, the summary, problems of a file."""
