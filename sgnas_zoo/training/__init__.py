"""What the recipes share: data, checkpoints, options. Needs the extra `recipes`."""
