"""What a command found, as one document: for a terminal, for Markdown, and as a page for a browser."""
