"""What `compare` is made of: workloads, the run with its peers, the report."""
