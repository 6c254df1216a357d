"""`neverstale init`: a first catalog and settings file, from what a MongoDB holds."""
