"""Instruments that speak SCPI: a file of declarations each, and a module for what is odd about a family."""
