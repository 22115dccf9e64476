"""What speed is measured with. Each module runs alone: `python -m benchmarks.<name>`."""
