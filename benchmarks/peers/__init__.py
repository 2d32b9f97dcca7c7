"""What people use instead, from published packages, and the least that a view can cost; see benchmarks/comparison.py.

A Django project of its own, in an environment of its own: nothing of this project is imported.
"""
