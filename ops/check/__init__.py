"""`neverstale check`: whether catalog, settings and servers are as they must be."""
