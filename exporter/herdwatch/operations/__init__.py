"""What runbooks tell people to run: hotkeys, warm, promote, verify."""
