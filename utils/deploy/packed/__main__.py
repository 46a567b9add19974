"""python -m secateurs.utils.deploy.packed FILE.dc [FILE.keras]: unpacks a network."""

from secateurs.utils.deploy.packed.cli import main

if __name__ == '__main__':
  main()
