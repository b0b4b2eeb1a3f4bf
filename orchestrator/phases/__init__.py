"""What one step of each phase does: observe, decide, record intent, act, record outcome."""
