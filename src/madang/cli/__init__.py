"""The command line: decode, one call, render."""
