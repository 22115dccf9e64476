"""Test modules of the plans; the package keeps their names apart from those of other modules."""
