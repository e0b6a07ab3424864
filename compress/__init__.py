"""torch -> smaller torch: train, derive a student, prune, distil."""
