"""The study on real photographs: `python -m tests.bench.study`; docs/study.md has what it found.

Begin with plan.py, which says what is compared.
"""
