"""What the alerts are worth: incidents and calm days, played through promtool and scored."""
