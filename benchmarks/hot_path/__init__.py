"""What everything around the network costs: `make benchmark`, or `python -m benchmarks.hot_path`; see README.md."""
