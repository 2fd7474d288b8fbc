"""What the page is put together from: its settings, its results, and their components."""
