"""Methods compared like for like: a matrix of runs over one teacher, and what their results say."""
