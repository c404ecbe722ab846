"""What a person sees: the screen during training, words for sizes and times, plots."""
