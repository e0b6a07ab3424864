"""What all stages share: the command line, the page, the stage cache and the recipes. Read page.py first."""
