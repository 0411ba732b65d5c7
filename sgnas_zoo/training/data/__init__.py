"""Images to train on and to measure with: from a folder or the Hub to batches."""
