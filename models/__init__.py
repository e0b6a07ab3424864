"""The ResNet family, and checkpoints in and out."""
