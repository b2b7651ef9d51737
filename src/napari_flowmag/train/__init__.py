"""Training: pairs, filter, augmentation, configuration and one loop for every task."""
