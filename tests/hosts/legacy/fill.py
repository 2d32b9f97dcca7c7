"""Nothing: the other system has made its rows."""
