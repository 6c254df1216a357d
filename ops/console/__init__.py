"""`neverstale run console`: a page that shows what the pipeline does, what is wrong with it, and what to do."""
