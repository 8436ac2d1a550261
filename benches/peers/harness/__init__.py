"""What runs the peers side by side; `../run` is the way in."""
