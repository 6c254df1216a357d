"""`neverstale doctor`: what is wrong with a pipeline that runs, one file for each group of checks."""
