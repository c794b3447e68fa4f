"""Taught students: every technique that trains, with a teacher or with labels alone."""
