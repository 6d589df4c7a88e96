"""What the organisers of competitions and benchmarks define: data, submissions, ground truths, metrics."""
