"""`python -m pyagent_patterns.cli`, for where the `pyagent` script is not on the path."""

from . import main

if __name__ == "__main__":
    main()
