"""`python -m genrl` is the command `genrl`."""

from genrl.cli import main

if __name__ == "__main__":
    main()
