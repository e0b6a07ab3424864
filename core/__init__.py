"""The ground floor that every other folder stands on: config, console, hardware, placement, text and the stage cache."""
