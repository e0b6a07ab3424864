"""What decides: the page (read page.py first), choosing, the ladder, runs, comparisons, recipes and the command line."""

__version__ = "0.1.0"
