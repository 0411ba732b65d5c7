"""One loop of steps for every training: checkpoints, resuming and processes."""
