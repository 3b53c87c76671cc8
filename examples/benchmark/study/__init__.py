"""Learning benchmarks: what is compared (plans, tasks, methods), how it is run, and how results are kept."""
