"""`python -m dbn`: the program torch-dbn."""

from dbn.cli import main

if __name__ == "__main__":
    main()
