"""What was refused, off its topic: found, shown, and sent again."""
