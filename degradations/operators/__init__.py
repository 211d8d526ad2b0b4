"""Pure tensor functions on one image at a time; they know nothing of names or severities."""
