"""Floor 3: clips measured. Metrics, the runner over a folder, pictures and tables of the result."""
