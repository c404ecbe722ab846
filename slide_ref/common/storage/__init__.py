"""Files and folders: plain arrays with a description, written completely or not at all."""
