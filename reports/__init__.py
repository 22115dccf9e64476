"""Reports: pure functions from the folder of a finished, or cut-off, run to files. They never touch a bench."""
