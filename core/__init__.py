"""What all other folders import: config, console, text, hardware, environment, placement, digests and the stage cache."""
