"""The docked widgets. They collect settings, start jobs and add layers; the core does the work."""
