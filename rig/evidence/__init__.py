"""Requirements, decision rules and the run record."""
