"""Output for people: the display during training, wording of sizes and times, plots."""
