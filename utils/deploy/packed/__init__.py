"""Packed networks: .dc files, after Han et al. 2016, "Deep Compression" (arXiv:1510.00149).

`python -m secateurs.utils.deploy.packed FILE.dc` gives the .keras file back. docs/quantization.md
describes the format byte by byte.
"""
