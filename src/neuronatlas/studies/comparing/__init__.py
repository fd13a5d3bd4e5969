"""Two atlases side by side: which neurons they share, which way these moved, and how far scores agree."""
