"""Ways to write a table down that others read: LaTeX, Markdown, cells of a spreadsheet."""
