"""Files and folders: plain arrays with a description, written whole or not at all."""
