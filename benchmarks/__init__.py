"""The same work given to other tools, side by side."""
