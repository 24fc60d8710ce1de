"""What runbooks tell people to run: hotkeys, plan, warm, promote, verify."""
