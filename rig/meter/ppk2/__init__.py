"""Nordic's Power Profiler Kit II: its words, its stream, its port, and the driver."""
